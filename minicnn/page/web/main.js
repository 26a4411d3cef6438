/** Puts the page together: its facts become a network, the network's numbers become pictures. */

import { App } from "./app.js";
import { button, h, walkable } from "./dom.js";
import { base64, floats, unpacked } from "./engine/data.js";
import { INPUT } from "./explain.js";
import { text } from "./texts.js";
import { confusionView } from "./views/confusion.js";
import { filtersView } from "./views/filters.js";
import { headView } from "./views/head.js";
import { inputView } from "./views/input.js";
import { learnView } from "./views/learn.js";
import { runView } from "./views/run.js";
import { scoresView } from "./views/scores.js";
import { stageView } from "./views/stage.js";
import { unitView } from "./views/unit.js";

/** The page as it was loaded, before anything was built: what a shared page is made of. */
const source = `<!doctype html>\n${document.documentElement.outerHTML}`;

const read = (id) => JSON.parse(document.getElementById(id).textContent);

async function images({ pixels, ...rest }) {
  return { ...rest, pixels: await unpacked(pixels) };
}

/** Panels of which one is seen, with its tab: [[name, view], ...]. */
function panels(views) {
  const tabs = views.map(([name]) =>
    button(text(name), () => open(name), { role: "tab", id: `tab-${name}`, "aria-controls": `panel-${name}` }),
  );
  const bodies = views.map(([name, view]) =>
    h("div", { role: "tabpanel", id: `panel-${name}`, "aria-labelledby": `tab-${name}` }, view.element),
  );
  const list = h("div", { class: "tabs", role: "tablist", "aria-label": text("panels") }, tabs);
  walkable(list, tabs, false);
  let current = views[0][0];
  function open(name) {
    current = name;
    views.forEach(([other], k) => {
      tabs[k].setAttribute("aria-selected", other === name);
      tabs[k].tabIndex = other === name ? 0 : -1;
      bodies[k].hidden = other !== name;
    });
    drawOpen();
  }
  const drawOpen = () => views.find(([name]) => name === current)[1].draw();
  return { element: h("section", { class: "card panel" }, list, bodies), open, drawOpen, current: () => current };
}

async function start() {
  const facts = read("facts");
  const saved = read("state");
  if (saved) delete facts.live; // a page that was shared follows no run
  const app = new App(facts, floats(facts.weights), {
    train: await images(facts.train),
    test: await images(facts.test),
  });
  const stage = stageView(app);
  const scores = scoresView(app);
  const input = inputView(app);
  const [unit, filters, learn] = [unitView(app), filtersView(app), learnView(app)];
  const confusion = confusionView(app, () => learn.measure());
  const run = facts.live ? [["tabRun", runView(app)]] : [];
  const tabs = panels([
    ...run,
    ["tabUnit", unit],
    ["tabFilters", filters],
    ["tabLearn", learn],
    ["tabConfusion", confusion],
  ]);
  const head = headView(app, () => share(app, input, tabs.current()));
  stage.addScores(scores);
  document.body.append(
    h("div", { id: "page" }, head.element, h("main", {}, input.element, stage.element, tabs.element)),
    stage.tip,
  );

  app.listen((what) => {
    if (what === "measured") confusion.setFigures(learn.figures());
    else if (what === "weights" && app.training.steps === 0) confusion.setFigures(null);
    if (what !== "focus") tabs.drawOpen();
    if (what === "focus" && app.pinned && tabs.current() !== "tabUnit") tabs.open("tabUnit");
  });
  head.draw();
  tabs.open(saved?.tab ?? (facts.live ? "tabRun" : "tabUnit"));
  if (saved) await restore(app, input, saved);
  else if (facts.test.labels.length) {
    input.choose(0);
    introduce(app);
  }
  document.body.dataset.ready = "true";
  window.minicnn = app; // for who looks under the hood, and for the tests
}

/** Begins with a unit in focus, so that one sees at once what the page does. */
function introduce(app) {
  const node = app.network.layers.findIndex((layer) => layer.window);
  if (node <= INPUT) return;
  const { y } = app.network.layers[node];
  let most = 0;
  y.forEach((v, i) => {
    if (v > y[most]) most = i;
  });
  app.look({ node, at: most });
}

/** Saves this page with its drawing, its weights and what is looked at as a new file. */
function share(app, input, tab) {
  const state = {
    tab,
    mode: app.mode,
    common: app.common,
    target: app.target,
    focus: app.pinned ? app.focus : null,
    weights: app.changed ? base64(app.network.values) : null,
    untrained: app.untrained,
    input: input.save(),
  };
  const data = JSON.stringify(state).replaceAll("<", "\\u003c");
  const mark = '<script type="application/json" id="state">';
  const begin = source.indexOf(mark) + mark.length;
  const page = source.slice(0, begin) + data + source.slice(source.indexOf("</", begin));
  const link = h("a", {
    href: URL.createObjectURL(new Blob([page], { type: "text/html" })),
    download: "page-shared.html",
  });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

async function restore(app, input, saved) {
  if (saved.weights) app.load(floats(saved.weights), { untrained: saved.untrained });
  await input.restore(saved.input);
  app.setTarget(saved.target);
  app.setCommon(saved.common);
  app.setMode(saved.mode);
  if (saved.focus) app.look(saved.focus, true);
}

start().catch((error) => {
  const reason = "DecompressionStream" in window ? error.message : text("oldBrowser");
  document.body.append(h("p", { role: "alert", class: "empty" }, text("broken", { reason })));
  throw error;
});
