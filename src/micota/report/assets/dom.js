"use strict";
// What the other scripts share. They are plain scripts, in the order of the page, in one scope.

const element = (id) => document.getElementById(id);

function make(tag, text = "", ...classes) {
  const node = document.createElement(tag);
  node.textContent = text;
  node.classList.add(...classes.filter(Boolean));
  return node;
}

function swatch(colour) {
  const node = make("i", "", "swatch");
  node.style.background = colour;
  return node;
}

/** The text that is packed (gzip, base64) in the element of this id. */
async function unpack(id) {
  const bytes = Uint8Array.from(atob(element(id).textContent), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

/** Copy text, and say so to eyes (on the button) and ears (in the live region). */
async function copy(button, text) {
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "copied";
  } catch {
    button.textContent = "not allowed";
  }
  element("said").textContent = button.textContent;
  button.addEventListener("blur", () => (button.textContent = label), { once: true });
}
