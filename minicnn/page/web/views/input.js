/** The image: a pad to draw on, files, test images, and how it was brought to the network's form. */

import { button, h, percent } from "../dom.js";
import { paintGrey, paintImage } from "../draw.js";
import { fitted, fromDrawing, fromPicture } from "../engine/digit.js";
import { plane } from "../engine/ink.js";
import { text } from "../texts.js";

const SIDE = 280; // pixels of the pad
const STROKE = 20;
const LARGEST = 1024; // the longer side of an image that is uploaded

export function inputView(app) {
  const { facts } = app;
  const digits = facts.characters;
  const pad = h("canvas", { width: SIDE, height: SIDE, role: "img", "aria-label": text("pad") });
  const context = pad.getContext("2d", { willReadFrequently: true });
  const hint = h("span", { class: "hint" }, text("padHint"));
  const padBox = h("div", { class: "pad" }, pad, hint);
  const message = h("p", { class: "message", role: "status" });
  const file = h("input", {
    type: "file",
    accept: "image/*",
    class: "hidden",
    tabindex: -1,
    "aria-label": text("upload"),
  });
  const steps = h("div", { class: "steps" });
  const galleries = h("div");
  const answer = h("p", { class: "answer" });
  const buttons = [];

  function blank() {
    context.fillStyle = "#fff";
    context.fillRect(0, 0, SIDE, SIDE);
    hint.hidden = false;
  }

  function clear() {
    blank();
    message.textContent = "";
    steps.replaceChildren();
    app.show(new Uint8Array(app.normalisation.pixels), null, { kind: "drawing" });
  }

  /** Shows a picture in the middle of the pad, as large as it fits; with `pixels` one sees each of its own. */
  function showOnPad(canvas, pixels) {
    padBox.classList.toggle("pixels", pixels);
    context.imageSmoothingEnabled = !pixels;
    const zoom = SIDE / Math.max(canvas.width, canvas.height);
    const [width, height] = [canvas.width * zoom, canvas.height * zoom];
    blank();
    hint.hidden = true;
    message.textContent = "";
    context.drawImage(canvas, (SIDE - width) / 2, (SIDE - height) / 2, width, height);
  }

  /** What is on the pad, as ink from 0 to 1 (a quarter of its pixels do). */
  function inkOnPad() {
    const { data } = context.getImageData(0, 0, SIDE, SIDE);
    const ink = plane(SIDE / 2, SIDE / 2);
    for (let i = 0; i < ink.data.length; i++) {
      const at = 4 * (2 * Math.floor(i / ink.width) * SIDE + 2 * (i % ink.width));
      const sum = data[at] + data[at + 4] + data[at + 4 * SIDE] + data[at + 4 * SIDE + 4];
      ink.data[i] = 1 - sum / 1020;
    }
    return ink;
  }

  function readPad(source) {
    if (!digits) {
      const image = context.getImageData(0, 0, SIDE, SIDE);
      for (let i = 0; i < image.data.length; i++) if (i % 4 < 3) image.data[i] = 255 - image.data[i];
      showFitted(image, source);
      return;
    }
    const found = fromDrawing(inkOnPad());
    if (!found) return;
    tellSteps(found);
    app.show(found.pixels, null, source);
  }

  function showFitted(image, source) {
    const pixels = fitted(image, facts.input_shape);
    steps.replaceChildren(figure(picture(pixels), text("stepResized")));
    app.show(pixels, null, source);
  }

  // --- drawing

  let last = null;
  let waiting = false;

  function stroke(to) {
    context.strokeStyle = "#000";
    context.lineWidth = STROKE;
    context.lineCap = context.lineJoin = "round";
    context.beginPath();
    context.moveTo(last[0], last[1]);
    context.lineTo(to[0], to[1]);
    context.stroke();
    last = to;
  }

  function placeIn(event) {
    const box = pad.getBoundingClientRect();
    return [((event.clientX - box.left) * SIDE) / box.width, ((event.clientY - box.top) * SIDE) / box.height];
  }

  pad.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    event.preventDefault();
    pad.setPointerCapture(event.pointerId);
    if (app.source?.kind !== "drawing" || hint.hidden === false) blank();
    padBox.classList.remove("pixels");
    hint.hidden = true;
    message.textContent = "";
    last = placeIn(event);
    stroke(last);
    readSoon();
  });
  pad.addEventListener("pointermove", (event) => {
    if (!last) return;
    for (const one of event.getCoalescedEvents?.() ?? [event]) stroke(placeIn(one));
    stroke(placeIn(event));
    readSoon();
  });
  for (const end of ["pointerup", "pointercancel"]) {
    pad.addEventListener(end, () => {
      last = null;
    });
  }

  function readSoon() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      readPad({ kind: "drawing" });
    });
  }

  // --- files

  async function take(blob) {
    let bitmap;
    try {
      bitmap = await createImageBitmap(blob);
    } catch {
      message.textContent = text("noImage");
      return;
    }
    const scale = Math.min(1, LARGEST / Math.max(bitmap.width, bitmap.height));
    const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * scale)));
    const sheet = h("canvas", { width, height }).getContext("2d", { willReadFrequently: true });
    sheet.imageSmoothingQuality = "high";
    sheet.drawImage(bitmap, 0, 0, width, height);
    const image = sheet.getImageData(0, 0, width, height);
    const found = digits ? fromPicture(image) : null;
    if (digits && !found) {
      message.textContent = text("noInk");
      return;
    }
    showOnPad(sheet.canvas, false);
    if (digits) {
      tellSteps(found);
      app.show(found.pixels, null, { kind: "file" });
    } else showFitted(image, { kind: "file" });
  }

  file.addEventListener("change", () => {
    if (file.files[0]) take(file.files[0]);
    file.value = "";
  });
  document.addEventListener("paste", (event) => {
    const item = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith("image/"));
    if (item) take(item);
  });
  padBox.addEventListener("dragover", (event) => {
    event.preventDefault();
    padBox.classList.add("over");
  });
  padBox.addEventListener("dragleave", () => padBox.classList.remove("over"));
  padBox.addEventListener("drop", (event) => {
    event.preventDefault();
    padBox.classList.remove("over");
    if (event.dataTransfer.files[0]) take(event.dataTransfer.files[0]);
  });

  // --- how it was prepared

  function picture(pixels, first = 0) {
    const canvas = h("canvas");
    paintImage(canvas, pixels, first, facts.input_shape, digits);
    return canvas;
  }

  const figure = (canvas, caption) => h("figure", {}, canvas, h("figcaption", {}, caption));

  function marked(canvas, draw) {
    const large = h("canvas", { width: 112, height: 112 });
    const on = large.getContext("2d");
    on.imageSmoothingEnabled = false;
    on.drawImage(canvas, 0, 0, 112, 112);
    on.strokeStyle = "#d1495b";
    on.lineWidth = 2;
    draw(on);
    return large;
  }

  /** Ink in the middle of a square. */
  function inkCanvas({ width, height, data }, side = Math.max(width, height)) {
    const [canvas, own] = [h("canvas", { width: side, height: side }), h("canvas", { width, height })];
    paintGrey(own, data, 0, 0, 1, true);
    const on = canvas.getContext("2d");
    on.fillStyle = "#fff";
    on.fillRect(0, 0, side, side);
    on.drawImage(own, Math.floor((side - width) / 2), Math.floor((side - height) / 2));
    return canvas;
  }

  function tellSteps({ ink, box, scaled, pixels, centre }) {
    const side = Math.max(ink.width, ink.height);
    const first = marked(inkCanvas(ink), (on) => {
      const [dx, dy] = [Math.floor((side - ink.width) / 2), Math.floor((side - ink.height) / 2)];
      on.scale(112 / side, 112 / side);
      on.lineWidth *= side / 112;
      on.strokeRect(box.left + dx, box.top + dy, box.right - box.left, box.bottom - box.top);
    });
    const second = marked(inkCanvas(scaled, 20), () => {});
    const third = marked(picture(pixels), (on) => {
      const [x, y] = centre.map((c) => (c + 0.5) * 4);
      on.beginPath();
      on.moveTo(x - 9, y);
      on.lineTo(x + 9, y);
      on.moveTo(x, y - 9);
      on.lineTo(x, y + 9);
      on.stroke();
      on.strokeStyle = "#0003";
      on.lineWidth = 1;
      on.strokeRect(56, 0, 0, 112);
      on.strokeRect(0, 56, 112, 0);
    });
    steps.replaceChildren(
      figure(first, text("stepInk")),
      figure(second, text("stepBox")),
      figure(third, text("stepCentre")),
    );
  }

  // --- test images

  function choose(index) {
    const { pixels, labels, numbers } = app.images.test;
    const first = index * app.normalisation.pixels;
    showOnPad(picture(pixels, first), true);
    steps.replaceChildren(figure(picture(pixels, first), text("stepGiven", { number: numbers[index] })));
    app.show(pixels.slice(first, first + app.normalisation.pixels), labels[index], { kind: "test", index });
  }

  function gallery(title, indices, wrong) {
    if (!indices.length) return;
    const { pixels, labels, predictions, numbers } = app.images.test;
    const readAs = (index) => (predictions ? text("readAs", { answer: app.classes[predictions[index]] }) : "");
    const row = h("div", { class: wrong ? "gallery wrong" : "gallery", role: "group", "aria-label": title });
    for (const index of indices) {
      const name = text("testImage", {
        number: numbers[index],
        label: app.classes[labels[index]],
        answer: readAs(index),
      });
      const properties = { "aria-label": name, title: name, "aria-pressed": "false" };
      const chooser = button(picture(pixels, index * app.normalisation.pixels), () => choose(index), properties);
      buttons.push({ index, chooser });
      row.append(chooser);
    }
    galleries.append(h("p", { class: "label" }, title), row);
  }

  const { labels, predictions } = app.images.test;
  const all = [...labels.keys()];
  const isWrong = (index) => predictions[index] !== labels[index];
  if (predictions) {
    const right = all.filter((index) => !isWrong(index));
    gallery(text("galleryRight"), right, false);
    gallery(text("galleryWrong"), all.filter(isWrong), true);
  } else gallery(text("gallery"), all, false);

  app.listen((what) => {
    if (what === "focus") return;
    const share = h("span", {}, percent(app.probabilities[app.answer]));
    answer.replaceChildren(text("seenAs", { name: app.classes[app.answer] }), share);
    for (const { index, chooser } of buttons) {
      chooser.setAttribute("aria-pressed", app.source?.kind === "test" && app.source.index === index);
    }
  });

  const element = h(
    "section",
    { class: "card input", "aria-label": text(digits ? "inputTitle" : "inputTitleImages") },
    h("h2", {}, text(digits ? "inputTitle" : "inputTitleImages")),
    padBox,
    h(
      "div",
      { class: "row" },
      button(text("clear"), clear),
      button(text("upload"), () => file.click(), { title: text("uploadHint") }),
      file,
    ),
    message,
    answer,
    h("div", { class: "half" }, h("p", { class: "label" }, text("preparation")), steps, galleries),
  );
  blank();

  return {
    element,
    choose,
    /** What is on the pad, for a page that is shared, and back. */
    save: () =>
      app.source?.kind === "test" ? { test: app.source.index } : { picture: pad.toDataURL(), pixels: [...app.pixels] },
    async restore(saved) {
      if (saved.test !== undefined) {
        choose(saved.test);
        return;
      }
      const image = h("img", { src: saved.picture });
      await image.decode();
      context.drawImage(image, 0, 0);
      hint.hidden = true;
      app.show(Uint8Array.from(saved.pixels), null, { kind: "drawing" });
    },
  };
}
