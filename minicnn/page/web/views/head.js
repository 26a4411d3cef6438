/** The head of the page: what network this is, and in which direction one looks. */

import { button, choice, counted, h } from "../dom.js";
import { text } from "../texts.js";

export function headView(app, share) {
  const { facts } = app;
  const note = h("span", { class: "changed", "aria-live": "polite" });
  const reset = button(text("resetShort"), () => app.reset(), { title: text("reset") });
  const result =
    facts.accuracy === undefined
      ? ""
      : text("accuracyOf", {
          share: counted(facts.accuracy),
          count: facts.test_count.toLocaleString("en"),
          held: facts.held_out,
        });
  const direction = choice(
    text("direction"),
    [
      ["forward", text("forward")],
      ["backward", text("backward")],
    ],
    app.mode,
    (mode) => app.setMode(mode),
  );
  direction.classList.add("direction");
  const scale = choice(
    text("scaleLabel"),
    [
      ["own", text("scaleOwn")],
      ["common", text("scaleCommon")],
    ],
    "own",
    (value) => app.setCommon(value === "common"),
  );
  const element = h(
    "header",
    {},
    h("h1", {}, facts.title),
    h("p", { class: "facts" }, result, " ", note, " ", reset),
    direction,
    scale,
    button(text("share"), share, { title: text("shareHint") }),
  );

  function draw() {
    note.textContent = app.changed ? `· ${text(app.untrained ? "untrainedNote" : "changedNote")}` : "";
    reset.hidden = !app.changed || app.training.running;
    direction.title = text(app.mode === "backward" ? "backwardHint" : "forwardHint");
    direction.set(app.mode);
    scale.set(app.common ? "common" : "own");
    document.body.classList.toggle("backward", app.mode === "backward");
  }
  app.listen((what) => what !== "focus" && draw());
  return { element, draw };
}
