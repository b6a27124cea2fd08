"use strict";
// The demo: asks the server about an image, shows its answer, and computes a convolution on it by hand.
(() => {
  const known = JSON.parse(document.getElementById("demo-data").textContent);
  const at = (id) => document.getElementById(id);
  const percent = (share) => `${(100 * share).toFixed(1)} %`;
  let grey = null; // rows of the image in grey
  let steps = null; // answer of the last computation by hand
  let asked = 0; // number of the last question about an image, so that a late answer to an earlier one is left out

  function element(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function tell(text, isBad = false) {
    at("status").textContent = text;
    at("status").classList.toggle("bad", isBad);
  }

  async function ask(path, options) {
    let response;
    try {
      response = await fetch(path, options);
    } catch {
      throw new Error("The server does not answer. Is it still running?");
    }
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.detail);
    return answer;
  }

  async function look(path, options) {
    const number = ++asked;
    tell("Looking …");
    try {
      const answer = await ask(path, options);
      if (number !== asked) return;
      show(answer);
      tell("");
    } catch (error) {
      if (number === asked) tell(error.message, true);
    }
  }

  function show({ prediction, truth, picture, heat, layers, grey: rows }) {
    at("said").replaceChildren(...sentence(prediction, truth));
    at("seen").src = picture;
    at("heat").src = heat;
    at("heat").alt = `Heat map of ${prediction.label}`;
    at("heat-text").textContent = `Orange: covering it lowers the probability of ${prediction.label}; blue: raises it`;
    const sorted = Object.entries(prediction.probabilities).sort((a, b) => b[1] - a[1]);
    at("bars").replaceChildren(...sorted.slice(0, 10).map(([name, share]) => bar(name, share, name === prediction.label)));
    if (sorted.length > 10) at("bars").append(element("li", "note", `and ${sorted.length - 10} more classes`));
    at("layers").replaceChildren(...layers.map(layer));
    grey = rows;
    for (const id of ["answer", "layers-section", "hand"]) at(id).hidden = false;
    compute();
  }

  function sentence(prediction, truth) {
    const name = element("b", "", prediction.label);
    name.dir = "auto";
    const parts = [name, `, with a probability of ${percent(prediction.probability)}.`];
    if (truth !== null) parts.push(truth === prediction.label ? " That is right." : ` It is wrong: this is ${truth}.`);
    if (prediction.set && prediction.set.length > 1) parts.push(` It may be any of: ${prediction.set.join(", ")}.`);
    if (prediction.unknown) parts.push(" The image is unlike those of the training, so the answer may mean nothing.");
    return parts;
  }

  function bar(name, share, isNamed) {
    const row = element("li", isNamed ? "named" : "");
    const label = element("span", "", name);
    label.dir = "auto";
    label.title = name;
    const track = element("span");
    track.append(element("i"));
    track.firstChild.style.width = `${100 * share}%`;
    row.append(label, track, element("span", "share", percent(share)));
    return row;
  }

  function layer({ name, kind, shape, formula, picture, num_shown: numShown }, index) {
    const box = element("details", "layer");
    box.open = index < 2;
    const title = [name, name.startsWith(kind) ? "" : kind, shape, formula].filter(Boolean);
    box.append(element("summary", "", title.join(" · ")));
    const scroll = element("div", "scroll");
    scroll.tabIndex = 0;
    scroll.setAttribute("role", "region");
    scroll.setAttribute("aria-label", `Feature maps: ${index + 1}, ${name || kind}`);
    const image = element("img");
    image.src = picture;
    image.alt = `The feature maps after ${name || kind}`;
    scroll.append(image);
    box.append(scroll);
    if (numShown < Number(shape.split(" ")[0])) box.append(element("p", "note", `The first ${numShown} channels.`));
    return box;
  }

  // Images to pick from.
  function offer() {
    const chosen = new Set();
    while (chosen.size < Math.min(known.at_a_time, known.samples)) chosen.add(Math.floor(Math.random() * known.samples));
    at("samples").replaceChildren(...[...chosen].map((index) => {
      const button = element("button");
      button.type = "button";
      button.setAttribute("aria-pressed", "false");
      const image = element("img");
      image.alt = `Image ${index} of the ${known.split} split`;
      image.src = `samples/${index}`;
      button.append(image);
      button.addEventListener("click", () => {
        press(button);
        look(`look/${index}`);
      });
      return button;
    }));
  }

  function press(button) {
    for (const other of document.querySelectorAll(".samples button")) other.setAttribute("aria-pressed", String(other === button));
  }

  if (known.samples) {
    offer();
    at("others").addEventListener("click", offer);
  }

  function upload(file) {
    if (!file) return;
    press(null);
    look("look", { method: "POST", body: file, headers: { "Content-Type": "application/octet-stream" } });
  }
  at("file").addEventListener("change", (event) => upload(event.target.files[0]));
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    at("drop").classList.add("over");
  });
  document.addEventListener("dragleave", () => at("drop").classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    at("drop").classList.remove("over");
    upload(event.dataTransfer.files[0]);
  });

  // A convolution by hand.
  const weights = [...document.querySelectorAll(".weight")];
  const kernel = () => weights.map((input) => Number(input.value));
  let computed = 0;

  async function compute() {
    if (grey === null) return;
    const number = ++computed;
    const query = new URLSearchParams({ weights: kernel().join(",") });
    for (const id of ["padding", "stride", "pooling"]) query.set(id, at(id).value);
    const options = { method: "POST", body: Uint8Array.from(grey.flat()), headers: { "Content-Type": "application/octet-stream" } };
    try {
      const answer = await ask(`by-hand?${query}`, options);
      if (number !== computed) return;
      steps = { ...answer, kernel: kernel(), padding: Number(at("padding").value), stride: Number(at("stride").value), pooling: Number(at("pooling").value) };
      draw();
    } catch (error) {
      at("sum").textContent = error.message;
    }
  }

  function draw() {
    const { padded, convolved, pooled, stride, pooling } = steps;
    const middle = Math.ceil(convolved.length / 2);
    for (const id of ["row", "column"]) {
      at(id).max = convolved.length;
      at(id).value = Math.min(convolved.length, Math.max(1, Math.round(Number(at(id).value || middle))));
    }
    const [row, column] = [at("row").value - 1, at("column").value - 1];
    const [pooledRow, pooledColumn] = [Math.floor(row / pooling), Math.floor(column / pooling)];
    const isKept = pooledRow < pooled.length && pooledColumn < pooled.length;
    paint(at("padded"), padded, [[row * stride, column * stride, 3]], 0, 255);
    const squares = [[row, column, 1], ...(isKept && pooling > 1 ? [[pooledRow * pooling, pooledColumn * pooling, pooling]] : [])];
    const [low, high] = paint(at("convolved"), convolved, squares);
    paint(at("pooled"), pooled, isKept ? [[pooledRow, pooledColumn, 1]] : [], low, high);
    at("padded-text").textContent = `The image with its padding: ${padded.length} × ${padded.length}. Black is 0, white is 255.`;
    at("convolved-text").textContent = `After the filter: ${steps.formula}. Black is ${short(low)}, white is ${short(high)}.`;
    at("pooled-text").textContent = pooling > 1 ? `After max-pooling: ${steps.pooled_formula}.` : "Without max-pooling.";
    const products = steps.kernel.map((weight, index) =>
      `${short(weight)}·${padded[row * stride + Math.floor(index / 3)][column * stride + (index % 3)]}`);
    at("sum").textContent = `Row ${row + 1}, column ${column + 1}: ${products.join(" + ")} = ${short(convolved[row][column])}`;
  }

  const short = (number) => String(Math.round(number * 100) / 100).replace("-", "−");

  // Draws numbers in grey and squares [row, column, side] around some; gives the numbers that are black and white.
  function paint(canvas, numbers, squares, low, high) {
    const size = numbers.length;
    if (low === undefined) [low, high] = [Math.min(...numbers.flat()), Math.max(...numbers.flat())];
    const scale = Math.max(4, Math.floor(352 / size));
    canvas.width = canvas.height = size * scale;
    const context = canvas.getContext("2d");
    numbers.forEach((line, row) => line.forEach((number, column) => {
      const level = high > low ? Math.round((255 * (number - low)) / (high - low)) : 128;
      context.fillStyle = `rgb(${level} ${level} ${level})`;
      context.fillRect(column * scale, row * scale, scale, scale);
    }));
    for (const [row, column, side] of squares) {
      for (const [colour, width] of [["#fff", 5], ["#d9691e", 3]]) {
        context.strokeStyle = colour;
        context.lineWidth = width;
        context.strokeRect(column * scale, row * scale, side * scale, side * scale);
      }
    }
    return [low, high];
  }

  // A click on a picture chooses the output whose window has its middle there.
  function choose(event, toOutput) {
    const box = event.target.getBoundingClientRect();
    const place = (offset, length, count) => Math.floor((offset / length) * count);
    const count = steps[event.target.id].length;
    at("row").value = toOutput(place(event.offsetY, box.height, count)) + 1;
    at("column").value = toOutput(place(event.offsetX, box.width, count)) + 1;
    draw();
  }
  at("padded").addEventListener("click", (event) => choose(event, (place) => Math.max(0, Math.round((place - 1) / steps.stride))));
  at("convolved").addEventListener("click", (event) => choose(event, (place) => place));
  at("pooled").addEventListener("click", (event) => choose(event, (place) => place * steps.pooling));
  for (const id of ["row", "column"]) at(id).addEventListener("input", () => at(id).value && draw());
  for (const id of ["padding", "stride", "pooling"]) at(id).addEventListener("change", compute);
  for (const input of weights) {
    input.addEventListener("input", () => {
      at("preset").value = "";
      compute();
    });
  }
  at("preset").addEventListener("change", () => {
    if (!at("preset").value) return;
    at("preset").value.split(",").forEach((weight, index) => { weights[index].value = weight; });
    compute();
  });
})();
