// The page's course: a picture is given, models say what they read of it, questions are asked.

import { answerCard, make, many, number, view } from "./make.js";

const at = (id) => document.getElementById(id);
let limits = { bytes: Infinity, kinds: [] };
let page = null; // as the server described it
let running = null; // stops what is under way

function say(text, busy = false) {
  at("status").textContent = text;
  at("status").classList.toggle("busy", busy);
}

function fail(text) {
  say("");
  at("error").textContent = text;
}

async function reply(address, options) {
  let response;
  try {
    response = await fetch(address, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. See whether fcot look is still running.");
  }
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(body.error?.message ?? `The server refused with status ${response.status}.`);
  return body;
}

// Do one thing at a time: a new one stops that under way.
async function work(told, action) {
  running?.abort();
  const mine = (running = new AbortController());
  at("error").textContent = "";
  say(told, true);
  at("ask").disabled = true;
  at("stop").disabled = false;
  try {
    await action(mine.signal);
  } catch (error) {
    if (running !== mine) return;
    if (error.name === "AbortError") say("Stopped.");
    else fail(error.message);
  } finally {
    if (running === mine) {
      running = null;
      if (document.activeElement === at("stop")) at("question").focus();
      at("ask").disabled = false;
      at("stop").disabled = true;
    }
  }
}

function give(picture, type) {
  if (!limits.kinds.includes(type)) return fail("This file is no picture that is read here. Give a PNG, JPEG or WebP file.");
  if (picture.size > limits.bytes) {
    return fail(`This file has ${number(picture.size)} bytes. Give one of at most ${number(limits.bytes)}.`);
  }
  return work("The page is being cut into tiles.", async (signal) => {
    const headers = { "Content-Type": type };
    page = await reply("page", { method: "POST", headers, body: picture, signal });
    at("size").textContent = `The page has ${page.size[0]} × ${page.size[1]} pixels.`;
    at("views").replaceChildren(...page.models.map((seen) => view(page, seen)));
    at("answers").replaceChildren();
    at("answered").hidden = true;
    at("seen").hidden = at("asking").hidden = false;
    const read = page.models.map((seen) => `${seen.name}: ${many(seen.tokens, "visual token")}`).join("; ");
    say(`The page is read. ${read}. You can ask now.`);
  });
}

function ask(question, models) {
  const asked = page;
  return work(`Asked: ${models.join(", ")}. This may take a while.`, async (signal) => {
    const body = JSON.stringify({ page: asked.page, question, models });
    const headers = { "Content-Type": "application/json" };
    const { answers } = await reply("ask", { method: "POST", headers, body, signal });
    const [first] = answers;
    const cards = make("div", { class: "cards" }, ...answers.map((answer) => answerCard(answer, first, asked)));
    const block = make("section", { class: "asked", "aria-label": question }, make("h3", {}, question));
    if (answers.length > 1) {
      const words = `Beside ${first.name}: what is added is `;
      const legend = [words, make("ins", {}, "underlined"), ", what is lacking is ", make("del", {}, "struck through"), "."];
      block.append(make("p", { class: "note" }, ...legend));
    }
    block.append(cards);
    at("answers").prepend(block);
    at("answered").hidden = false;
    say(answers.map((answer) => spoken(answer, first)).join(" "));
  });
}

function spoken(answer, first) {
  const text = answer.answer.length > 200 ? `${answer.answer.slice(0, 200)}…` : answer.answer;
  const beside = answer === first ? "" : answer.answer === first.answer ? ", the same" : ", not the same";
  return `${answer.name}${beside}: “${text}”.`;
}

at("file").addEventListener("change", () => {
  const [file] = at("file").files;
  if (file) give(file, file.type);
});

at("example").addEventListener("click", async () => {
  at("file").value = "";
  const response = await fetch("example.png").catch(() => null);
  if (!response?.ok) return fail("The server does not answer. See whether fcot look is still running.");
  at("question").value ||= "City?";
  return give(await response.blob(), "image/png");
});

at("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (at("ask").disabled) return;
  const question = at("question").value.trim();
  const models = [...at("choice").querySelectorAll("input:checked")].map((box) => box.value);
  if (!question) fail("The question is empty. Write one.");
  else if (!models.length) fail("No model is chosen. Choose one or more.");
  else ask(question, models);
});

at("stop").addEventListener("click", () => running?.abort());

try {
  const known = await reply("models");
  limits = known.limits;
  const told = known.models.map((model) => `${model.name} (${many(model.tokens_a_tile, "visual token")} a tile)`);
  at("models").textContent = `Here: ${told.join(", ")}. Give a page, see what each reads of it, ask, and compare.`;
  for (const { name } of known.models) {
    at("choice").append(make("label", {}, make("input", { type: "checkbox", value: name, checked: true }), name));
  }
} catch (error) {
  at("models").textContent = "";
  fail(error.message);
}
