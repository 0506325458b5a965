// The field of labels: chips, whose square tells thing (filled) from stuff (hatched), and a text field for more.
// `props.value` is a list of {name, stuff}; `props.colors` what the regions of a label are drawn in.
const list = element.querySelector('.es-chips');
const input = element.querySelector('input');
const labels = () => props.value || [];

function set(value) {
  props.value = value;
  render();
  trigger('change');
}

function add(text) {
  const value = labels().slice();
  for (const part of text.split(/[,\n;]/)) {
    const mark = part.match(/\[(stuff|thing)\]\s*$/i);
    const name = part.replace(/\s*\[(stuff|thing)\]\s*$/i, '').trim();
    if (!name || value.some((label) => label.name.toLowerCase() === name.toLowerCase())) continue;
    const stuff = mark ? mark[1].toLowerCase() === 'stuff' : props.stuff.includes(name.toLowerCase());
    value.push({ name, stuff });
  }
  input.value = '';
  set(value);
}

function render() {
  list.querySelectorAll('.es-chip').forEach((chip) => chip.remove());
  labels().forEach((label, index) => {
    const chip = document.createElement('span');
    chip.className = 'es-chip';
    chip.style.setProperty('--color', props.colors[index % props.colors.length]);
    const kind = document.createElement('button');
    kind.type = 'button';
    kind.className = label.stuff ? 'es-kind es-stuff' : 'es-kind';
    kind.title = label.stuff ? 'stuff, such as sky: one region. Click: thing' : 'thing: counted one by one. Click: stuff';
    kind.setAttribute('aria-label', `${label.name}: ${label.stuff ? 'stuff' : 'thing'}`);
    kind.onclick = () => set(labels().map((one, i) => (i === index ? { ...one, stuff: !one.stuff } : one)));
    const name = document.createElement('span');
    name.textContent = label.name;
    const remove = document.createElement('button');
    remove.type = 'button';
    remove.className = 'es-remove';
    remove.textContent = '×';
    remove.setAttribute('aria-label', `Remove ${label.name}`);
    remove.onclick = () => { set(labels().filter((_, i) => i !== index)); input.focus(); };
    chip.append(kind, name, remove);
    list.insertBefore(chip, input);
  });
  input.placeholder = labels().length ? 'another label' : 'cat, grass, sky …';
}

input.addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) {
    if (input.value.trim()) add(input.value);
    trigger('submit');
  } else if (event.key === 'Enter' || event.key === ',') {
    event.preventDefault();
    add(input.value);
  } else if (event.key === 'Backspace' && !input.value && labels().length) {
    set(labels().slice(0, -1));
  }
});
input.addEventListener('paste', (event) => {
  const text = event.clipboardData.getData('text');
  if (/[,\n;]/.test(text)) {
    event.preventDefault();
    add(input.value + text);
  }
});
input.addEventListener('blur', () => { if (input.value.trim()) add(input.value); });
list.addEventListener('click', (event) => { if (event.target === list) input.focus(); });
watch('value', render);
render();
