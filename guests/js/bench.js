// Objects, closures, generators, promises, exceptions, regular expressions, big integers, sorting, typed arrays.
// bench [size = 60]; the time grows linearly with it.
const size = Number(scriptArgs[1] ?? 60);
let state = 42;
const random = (n) => (state = (Math.imul(state, 1103515245) + 12345) >>> 0, (state >>> 8) % n);
const sum = (text) => { let h = 5381; for (let i = 0; i < text.length; i++) h = (Math.imul(h, 33) + text.charCodeAt(i)) >>> 0; return h.toString(16); };

function strings() {
  const parts = [];
  for (let i = 0; i < size * 2000; i++) parts.push(`${i}:${random(1 << 20).toString(16)}`);
  const turned = parts.join(",").replace(/(\d+):([0-9a-f]+)/g, (_, a, b) => `${b}=${a}`);
  return `${turned.length} ${sum(turned)}`;
}
function objects() {
  const list = [];
  for (let i = 0; i < size * 3000; i++) list.push({ key: random(1000000), place: i });
  list.sort((a, b) => a.key - b.key || a.place - b.place);
  const groups = new Map();
  for (const { key, place } of list) groups.set(key % 97, ((groups.get(key % 97) ?? 0) * 31 + place) >>> 0);
  return sum(JSON.stringify([...groups]));
}
function closures() {
  const counters = Array.from({ length: 100 }, (_, i) => { let n = 0; return () => (n += i); });
  let total = 0;
  for (let round = 0; round < size * 200; round++) for (const next of counters) total += next();
  return total;
}
function generators() {
  function* walk(low, high) {
    if (low > high) return;
    const middle = (low + high) >> 1;
    yield* walk(low, middle - 1);
    yield middle;
    yield* walk(middle + 1, high);
  }
  let total = 0;
  for (let round = 0; round < size; round++) { let place = 0; for (const v of walk(1, 500)) total += v * ++place + round; }
  return total;
}
function exceptions() {
  let caught = 0, total = 0;
  const risky = (depth) => { if (depth === 0) throw { code: random(1000) }; try { return risky(depth - 1); } finally { total++; } };
  for (let i = 0; i < size * 1000; i++) try { risky(i % 10); } catch (problem) { caught++; total += problem.code; }
  return `${caught} ${total}`;
}
function bigints() {
  let a = 0n, b = 1n;
  for (let i = 0; i < size * 100; i++) [a, b] = [b, a + b];
  return sum(a.toString(16));
}
function typed() {
  const data = new Float64Array(10000);
  for (let i = 0; i < data.length; i++) data[i] = random(1000) / 7;
  for (let round = 0; round < size; round++) for (let i = 1; i < data.length; i++) data[i] = (data[i] + data[i - 1]) * 0.5;
  return data[data.length - 1];
}
async function promises() {
  let total = 0;
  const later = async (x) => { await null; return x * 2; };
  for (let i = 0; i < size * 500; i++) total += await later(i);
  return total;
}
for (const part of [strings, objects, closures, generators, exceptions, bigints, typed]) print(part.name, String(part()));
promises().then((total) => print("promises", String(total)));
