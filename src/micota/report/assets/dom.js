"use strict";
// Functions that the other scripts share. All are plain scripts in one scope, in the order of page.html.

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

/** Return the unpacked text (gzip in base64) of the element with this id. */
async function unpack(id) {
  const packed = atob(element(id).textContent);
  const bytes = new Uint8Array(packed.length);
  for (let index = 0; index < packed.length; index++) bytes[index] = packed.charCodeAt(index); // a call each is slow
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

/** Copy text and report the result on the button and, for screen readers, in the live region. */
async function copy(button, text) {
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "copied";
  } catch {
    button.textContent = "not allowed";
  }
  element("status").textContent = button.textContent;
  button.addEventListener("blur", () => (button.textContent = label), { once: true });
}
