// The viewer: draws what `view.py` tells, says what is under the pointer, and asks the server for corrections.
// Text of users only ever becomes text of elements, never markup.
const find = (selector) => element.querySelector(selector);
const root = find('.es-viewer'), main = find('.es-main'), tip = find('.es-tip'), card = find('.es-card');
const fill = find('.es-fill'), lines = find('.es-lines'), light = find('.es-light');
const state = { view: null, still: null, parts: null, unit: 'region', hover: -1, chosen: [], loading: '' };
const OTHER = { name: 'other', color: '#8a8f98', stuff: true };

function make(tag, options = {}, ...children) {
  const node = Object.assign(document.createElement(tag), options);
  node.append(...children);
  return node;
}
const percent = (value) => `${(100 * value).toFixed(value < 0.0995 && value > 0 ? 1 : 0)} %`;
const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
const labelOf = (part) => (state.view.ids[part] ? state.view.labels[state.view.ids[part] - 1] : OTHER);
// All parts that a click on `part` selects. What is other has no regions.
function unitOf(part) {
  const region = state.view.region_of[part];
  if (state.unit === 'part' || region < 0) return [part];
  return state.view.region_of.flatMap((one, index) => (one === region ? [index] : []));
}
function about(parts) {
  const region = state.view.region_of[parts[0]];
  return state.unit === 'region' && region >= 0 ? state.view.about_regions[region] : state.view.about_parts[parts[0]];
}

function evidence(parts) {
  const [score, share, margin, runnerUp, area, edited] = about(parts);
  const label = labelOf(parts[0]);
  const swatch = make('i', { className: label.stuff ? 'es-swatch es-stuff' : 'es-swatch' });
  swatch.style.setProperty('--color', label.color);
  const head = make('div', { className: 'es-name' }, swatch, make('b', { textContent: label.name }));
  if (edited) head.append(make('em', { textContent: 'by hand' }));
  const rows = [['of the image', percent(area)]];
  if (share !== null) rows.unshift(['share', percent(share)], ['runner-up', runnerUp === null ? 'none' : runnerUp], ['margin', margin.toFixed(2)], ['score', score.toFixed(2)]);
  const table = make('dl');
  for (const [key, value] of rows) table.append(make('dt', { textContent: key }), make('dd', { textContent: value }));
  return [head, table];
}

function image(url) {
  return new Promise((resolve, reject) => {
    const loaded = new Image();
    loaded.onload = () => resolve(loaded);
    loaded.onerror = reject;
    loaded.src = url;
  });
}

async function load(view) {
  state.loading = view.key;
  const ids = await image(view.parts);
  if (state.loading !== view.key) return false;
  const [width, height] = view.size;
  const canvas = make('canvas', { width, height });
  const context = canvas.getContext('2d', { willReadFrequently: true });
  context.drawImage(ids, 0, 0);
  const data = context.getImageData(0, 0, width, height).data;
  state.parts = new Int32Array(width * height);
  for (let i = 0; i < state.parts.length; i++) state.parts[i] = data[4 * i] + 256 * data[4 * i + 1] + 65536 * data[4 * i + 2];
  state.still = view;
  for (const layer of [fill, lines, light]) Object.assign(layer, { width, height });
  element.querySelectorAll('.es-pane img').forEach((one) => { one.src = view.image; });
  root.style.setProperty('--ratio', width / height);
  return true;
}

async function show() {
  root.classList.toggle('es-none', !props.value);
  const still = props.still;
  if (still && still.key !== (state.still || {}).key && !(await load(still))) return;
  // Another one may have come while the image was loaded.
  const view = props.value;
  if (!view || !state.still || state.still.key !== view.key) return;
  const moved = !state.view || state.view.key !== view.key || view.ids.length !== state.view.ids.length;
  state.view = view;
  if (moved) state.chosen = [];
  // Where it stands below all else.
  if (moved && window.innerWidth <= 640) root.scrollIntoView({ block: 'nearest' });
  state.hover = -1;
  tip.hidden = true;
  paint();
  highlight();
  bar();
  rows();
  edit();
  root.dataset.ready = view.key;
}

function paint() {
  const { size: [width, height] } = state.still, { ids, labels, region_of } = state.view;
  const colors = labels.map((label) => rgb(label.color)), painted = new ImageData(width, height), drawn = new ImageData(width, height);
  const parts = state.parts;
  const key = (part) => (region_of[part] < 0 ? -1 : region_of[part]);
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      const part = parts[i], id = ids[part], at = 4 * i;
      if (id) {
        const [r, g, b] = colors[id - 1];
        painted.data[at] = r; painted.data[at + 1] = g; painted.data[at + 2] = b; painted.data[at + 3] = 255;
      }
      const right = x + 1 < width ? parts[i + 1] : part, below = y + 1 < height ? parts[i + width] : part;
      if (right !== part || below !== part) {
        const border = key(right) !== key(part) || key(below) !== key(part);
        if (border || state.unit === 'part') {
          drawn.data[at] = drawn.data[at + 1] = drawn.data[at + 2] = 255;
          drawn.data[at + 3] = border ? 235 : 110;
        }
      }
    }
  }
  fill.getContext('2d').putImageData(painted, 0, 0);
  lines.getContext('2d').putImageData(drawn, 0, 0);
}

function highlight() {
  const { size: [width, height] } = state.still, context = light.getContext('2d');
  context.clearRect(0, 0, width, height);
  const hovered = new Set(state.hover < 0 ? [] : unitOf(state.hover)), chosen = new Set(state.chosen);
  if (!hovered.size && !chosen.size) return;
  const data = new ImageData(width, height), parts = state.parts, reach = Math.max(1, Math.round(Math.max(width, height) / 500));
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      const part = parts[i], set = chosen.has(part) ? chosen : hovered.has(part) ? hovered : null;
      if (!set) continue;
      const edge = x < reach || y < reach || x + reach >= width || y + reach >= height
        || !set.has(parts[i - reach]) || !set.has(parts[i + reach]) || !set.has(parts[i - reach * width]) || !set.has(parts[i + reach * width]);
      const at = 4 * i, strong = set === chosen;
      data.data[at] = data.data[at + 1] = data.data[at + 2] = edge && strong ? 15 : 255;
      data.data[at + 3] = edge ? 255 : strong ? 40 : 70;
    }
  }
  context.putImageData(data, 0, 0);
}

function partAt(event) {
  const box = light.getBoundingClientRect(), [width, height] = state.still.size;
  const x = Math.floor((event.clientX - box.left) / box.width * width), y = Math.floor((event.clientY - box.top) / box.height * height);
  return x >= 0 && y >= 0 && x < width && y < height ? state.parts[y * width + x] : -1;
}

main.addEventListener('pointermove', (event) => {
  if (!state.view || event.pointerType === 'touch') return;
  const part = partAt(event);
  if (part !== state.hover) {
    state.hover = part;
    highlight();
    if (part >= 0) tip.replaceChildren(...evidence(unitOf(part)));
  }
  tip.hidden = part < 0;
  const box = main.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
  tip.style.left = `${Math.max(0, x + 16 + tip.offsetWidth > box.width ? x - tip.offsetWidth - 12 : x + 16)}px`;
  tip.style.top = `${Math.max(0, y + 16 + tip.offsetHeight > box.height ? y - tip.offsetHeight - 12 : y + 16)}px`;
});
main.addEventListener('pointerleave', () => {
  tip.hidden = true;
  if (state.hover >= 0) { state.hover = -1; if (state.view) highlight(); }
});
main.addEventListener('click', (event) => {
  if (!state.view) return;
  const part = partAt(event);
  if (part >= 0) choose(state.chosen.includes(part) && !event.shiftKey ? [] : event.shiftKey ? [...new Set([...state.chosen, ...unitOf(part)])] : unitOf(part));
});

function choose(parts) {
  state.chosen = parts;
  highlight();
  edit();
  if (parts.length) card.scrollIntoView({ block: 'nearest' });
}

function send(change) {
  trigger('edit', { ...change, key: state.view.key });
}

function chip(label, act) {
  const button = make('button', { type: 'button', className: 'es-choice', onclick: act });
  const swatch = make('i', { className: label.stuff ? 'es-swatch es-stuff' : 'es-swatch' });
  swatch.style.setProperty('--color', label.color);
  button.append(swatch, label.name);
  return button;
}

function edit() {
  const parts = state.chosen;
  card.hidden = !parts.length;
  if (!parts.length) return;
  const view = state.view, own = new Set(parts), beside = new Map();
  for (const part of parts) {
    for (const other of state.still.neighbours[part]) {
      const id = view.ids[other];
      if (!own.has(other) && id !== view.ids[parts[0]] && !beside.has(id)) beside.set(id, other);
    }
  }
  const close = make('button', { type: 'button', className: 'es-close', textContent: '×', onclick: () => choose([]) });
  close.setAttribute('aria-label', 'Close');
  const change = make('div', { className: 'es-choices' });
  view.labels.forEach((label, index) => {
    if (index + 1 !== view.ids[parts[0]]) change.append(chip(label, () => send({ relabel: parts, label: label.name })));
  });
  if (view.ids[parts[0]]) change.append(chip(OTHER, () => send({ relabel: parts, label: null })));
  const text = make('input', { type: 'text', placeholder: 'a new label, Enter', className: 'es-new', maxLength: 200 });
  text.setAttribute('aria-label', 'A new label');
  text.addEventListener('keydown', (event) => {
    if (event.key === 'Enter' && text.value.trim()) send({ relabel: parts, label: text.value.trim() });
  });
  change.append(text);
  const merge = make('div', { className: 'es-choices' });
  for (const [id, part] of beside) merge.append(chip(id ? view.labels[id - 1] : OTHER, () => send({ merge: parts, neighbour: part })));
  card.replaceChildren(close, make('div', { className: 'es-about' }, ...evidence(parts)), make('div', { className: 'es-edit' },
    make('h4', { textContent: 'Give it another label' }), change,
    ...(beside.size ? [make('h4', { textContent: 'Merge with its neighbour' }), merge] : [])));
}

function bar() {
  const view = state.view;
  const tabs = view.images.map((name, index) => {
    const tab = make('button', { type: 'button', textContent: name, title: name, onclick: () => index !== view.shown && send({ show: index }) });
    tab.setAttribute('role', 'tab');
    tab.setAttribute('aria-selected', index === view.shown);
    return tab;
  });
  find('.es-images').replaceChildren(...tabs);
  find('.es-undo').disabled = !view.undo;
  find('.es-redo').disabled = !view.redo;
}

// The segments that are least certain come first.
function rows() {
  const view = state.view, first = new Map();
  view.region_of.forEach((region, part) => { if (region >= 0 && !first.has(region)) first.set(region, part); });
  const sorted = [...first].sort((a, b) => view.about_regions[a[0]][2] - view.about_regions[b[0]][2]).slice(0, 200);
  find('summary').textContent = `${first.size} segments, the least certain first`;
  find('.es-rows').replaceChildren(...sorted.map(([region, part]) => {
    const [, share, margin, , area, edited] = view.about_regions[region];
    const row = chip(labelOf(part), () => {
      if (state.unit !== 'region') unit('region');
      choose(unitOf(part));
    });
    row.append(make('span', { textContent: `${edited ? 'by hand · ' : ''}share ${percent(share)} · margin ${margin.toFixed(2)} · ${percent(area)} of the image` }));
    return row;
  }));
}

function unit(name) {
  state.unit = name;
  element.querySelectorAll('[data-unit]').forEach((one) => one.setAttribute('aria-pressed', one.dataset.unit === name));
  if (!state.view) return;
  state.chosen = [];
  paint();
  highlight();
  edit();
}

const range = find('.es-opacity input');
const dim = () => root.style.setProperty('--opacity', range.value / 100);
range.addEventListener('input', dim);
element.querySelectorAll('[data-unit]').forEach((button) => { button.onclick = () => unit(button.dataset.unit); });
find('.es-side').onclick = (event) => {
  const on = root.classList.toggle('es-two');
  event.currentTarget.setAttribute('aria-pressed', on);
};
find('.es-undo').onclick = () => send({ undo: true });
find('.es-redo').onclick = () => send({ redo: true });
document.addEventListener('keydown', (event) => {
  if (!state.view || /^(INPUT|TEXTAREA)$/.test(event.target.tagName)) return;
  if (event.key === 'Escape') choose([]);
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === 'z') {
    event.preventDefault();
    send(event.shiftKey ? { redo: true } : { undo: true });
  }
});
dim();
// For tests: what is shown, and a pixel of a part on the screen.
root.view = () => state.view;
root.pointOf = (part) => {
  const box = light.getBoundingClientRect(), [width, height] = state.still.size, inside = [];
  state.parts.forEach((one, index) => { if (one === part) inside.push(index); });
  const at = inside[inside.length >> 1];
  return [box.left + ((at % width) + 0.5) / width * box.width, box.top + (Math.floor(at / width) + 0.5) / height * box.height];
};
watch(['value', 'still'], show);
show();
