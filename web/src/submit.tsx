// Tasks are submitted: one by a form, or many as text. What is wrong is said while it is typed, by the API's own description, and
// again by the controller, at the same places.
import { blake3 } from '@noble/hashes/blake3';
import { bytesToHex } from '@noble/hashes/utils';
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { ask, bring, has, Problem, type SetRequest, type TaskRequest } from './api';
import { bytes, size, words } from './format';
import { useDescription } from './description';
import { Editor, Faults } from './editor';
import { t, told } from './i18n';
import { find } from './json';
import { go } from './router';
import { Preview } from './plan';
import { check, type Schemas } from './schema';
import { tasks } from './store';
import { complain, say, Title } from './ui';
import { wanted, type Fault, type Program } from './wanted';

interface Chosen extends Program {
  bytes: number;
}

export function Submit() {
  const schemas = useDescription();
  const [many, setMany] = useState(false);
  const [programs, setPrograms] = useState<Chosen[]>([]);
  return (
    <>
      <Title text={t('Submit')} />
      <div class="tabs" role="tablist">
        <button role="tab" aria-selected={!many} onClick={() => setMany(false)}>
          {t('One task')}
        </button>
        <button role="tab" aria-selected={many} onClick={() => setMany(true)}>
          {t('Many, as JSON')}
        </button>
      </div>
      <Programs all={programs} set={setPrograms} />
      {many ? <Many programs={programs} schemas={schemas} /> : <One programs={programs} schemas={schemas} />}
    </>
  );
}

function Programs({ all, set }: { all: Chosen[]; set: (to: (was: Chosen[]) => Chosen[]) => void }) {
  const [busy, setBusy] = useState('');
  const take = async (files: Iterable<File>) => {
    for (const file of files) {
      setBusy(file.name);
      try {
        const module = new Uint8Array(await file.arrayBuffer());
        if (module[0] !== 0 || module[1] !== 0x61 || module[2] !== 0x73 || module[3] !== 0x6d) throw new Error(t('{file} is no WebAssembly module', { file: file.name }));
        const digest = bytesToHex(blake3(module));
        if (!(await has(digest))) await bring(digest, module);
        set((was) => [...was.filter((other) => other.file !== file.name), { file: file.name, digest, bytes: module.length }]);
      } catch (e) {
        complain(e);
      }
    }
    setBusy('');
  };
  const drop = (e: DragEvent) => {
    e.preventDefault();
    if (e.dataTransfer) void take([...e.dataTransfer.files]);
  };
  return (
    <section class="programs" onDragOver={(e) => e.preventDefault()} onDrop={drop}>
      <label>
        {t('Programs (.wasm), chosen or dropped here')}
        <input type="file" accept=".wasm,application/wasm" multiple onChange={(e) => void take([...(e.currentTarget.files ?? [])])} />
      </label>
      {busy && <p class="quiet" role="status">{t('{file} is brought to the controller, and compiled', { file: busy })}</p>}
      {all.length > 0 && (
        <ul>
          {all.map((program) => (
            <li key={program.file}>
              <b>{program.file}</b> <span class="quiet">{bytes(program.bytes)}</span> <code class="digest">{program.digest.slice(0, 16)}…</code>
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}

async function send(set: SetRequest) {
  const taken = await ask('post', '/v1/sets', {}, set);
  say(t('{set} is taken: {n} tasks.', { set: taken.set, n: taken.tasks }));
  go(taken.tasks === 1 ? `/tasks/${encodeURIComponent(set.tasks[0]!.name)}` : `/tasks?set=${encodeURIComponent(taken.set)}`);
}

/** What a task goes on from when its node is lost: one of them. */
type Lost = 'anew' | 'standby' | 'snapshot';
const FIRST = { name: '', image: '', args: '', cores: '1', memory: '256 MiB', count: '1', priority: '0', labels: '', env: '', deadline: '', estimate: '', gpu: false, local_only: false, lost: 'anew' as Lost, every: '60' };
type Typed = typeof FIRST;

/** What the form says. */
function formed(typed: Typed): TaskRequest {
  const number = (text: string) => (text.trim() === '' ? NaN : Number(text));
  const env = typed.env.split('\n').map((line) => line.trim()).filter(Boolean);
  return {
    name: typed.name,
    image: typed.image,
    args: words(typed.args),
    env: Object.fromEntries(env.map((line) => [line.split('=', 1)[0]!, line.slice(line.indexOf('=') + 1)])),
    cores: number(typed.cores),
    memory: size(typed.memory),
    gpu: typed.gpu,
    labels: typed.labels.split(/\s+/).filter(Boolean),
    local_only: typed.local_only,
    standby: typed.lost === 'standby',
    snapshot_every: typed.lost === 'snapshot' ? number(typed.every) : null,
    priority: number(typed.priority),
    count: number(typed.count),
    deadline: typed.deadline.trim() ? number(typed.deadline) : null,
    estimate: typed.estimate.trim() ? number(typed.estimate) : null,
  };
}

function One({ programs, schemas }: { programs: Chosen[]; schemas: Schemas }) {
  const [typed, setTyped] = useState<Typed>(FIRST);
  const [touched, setTouched] = useState<ReadonlySet<string>>(new Set());
  const [said, setSaid] = useState<Fault[]>([]);
  const [busy, setBusy] = useState(false);
  const change = (to: Partial<Typed>) => {
    setTyped((was) => ({ ...was, ...to }));
    setTouched((was) => new Set([...was, ...Object.keys(to)]));
    setSaid([]);
  };
  // The program that was chosen last is likely the one that is meant.
  const newest = programs.at(-1)?.digest;
  useEffect(() => {
    if (newest) change({ image: newest });
  }, [newest]);
  const task = formed(typed);
  const wrong = useMemo(() => {
    const found = check(task, { $ref: 'TaskRequest' }, schemas);
    if (tasks.has(task.name)) found.push({ field: 'name', message: t('there is a task of this name') });
    for (const key of ['deadline', 'estimate'] as const) if (task[key] != null && !(task[key]! > 0)) found.push({ field: key, message: t('is no number of seconds above 0') });
    if (Number.isNaN(task.memory)) return [...found.filter((one) => one.field !== 'memory'), { field: 'memory', message: t('is no size, as 64 MiB or 1.5G') }];
    return found;
  }, [typed, schemas]);
  const known = useMemo(() => [...new Map([...tasks.values()].map((task) => [task.image, task])).values()].slice(-20), [tasks.size]);
  const fault = (field: string) => {
    const one = said.find((one) => one.field.endsWith(`.${field}`) || one.field === field) ?? (touched.has(field) || field === 'snapshot_every' ? wrong.find((one) => one.field === field) : undefined);
    return one && <span class="wrong" id={`wrong-${field}`} data-wrong={field}>{told(one.message)}</span>;
  };
  const input = (field: keyof Typed, label: string, rest: { placeholder?: string; mono?: boolean } = {}) => (
    <label>
      {label}
      <input
        value={typed[field] as string}
        spellcheck={false}
        class={rest.mono ? 'mono' : undefined}
        placeholder={rest.placeholder}
        name={field}
        aria-invalid={fault(field) ? true : undefined}
        aria-describedby={`wrong-${field}`}
        onInput={(e) => change({ [field]: e.currentTarget.value })}
      />
      {fault(field)}
    </label>
  );
  const box = (field: 'gpu' | 'local_only', label: string) => (
    <label class="inline">
      <input type="checkbox" checked={typed[field]} onChange={(e) => change({ [field]: e.currentTarget.checked })} /> {label}
    </label>
  );
  const choice = (lost: Lost, label: string) => (
    <label class="inline">
      <input type="radio" name="lost" checked={typed.lost === lost} onChange={() => change({ lost })} /> {label}
    </label>
  );
  const submit = async (e: Event) => {
    e.preventDefault();
    setTouched(new Set(Object.keys(FIRST)));
    if (wrong.length) return;
    setBusy(true);
    try {
      await send({ name: task.name, tasks: [task] });
    } catch (e) {
      if (e instanceof Problem) setSaid(e.errors);
      complain(e);
    }
    setBusy(false);
  };
  return (
    <form class="form" onSubmit={(e) => void submit(e)}>
      {input('name', t('Name'))}
      <label>
        {t('Program')}
        <input
          class="mono"
          list="programs"
          name="image"
          value={typed.image}
          spellcheck={false}
          placeholder={t('its digest, or one that was chosen above')}
          aria-invalid={fault('image') ? true : undefined}
          aria-describedby="wrong-image"
          onInput={(e) => change({ image: e.currentTarget.value.trim() })}
        />
        <datalist id="programs">
          {programs.map((program) => (
            <option key={program.digest} value={program.digest} label={program.file} />
          ))}
          {known.map((task) => (
            <option key={task.image} value={task.image} label={`${task.name} ${task.args.join(' ')}`} />
          ))}
        </datalist>
        {fault('image')}
      </label>
      {input('args', t('Arguments'), { placeholder: t("as a shell has them: 12 'two words'"), mono: true })}
      <div class="fields">
        {input('cores', t('Processors'))}
        {input('memory', t('Memory'))}
        {input('count', t('How many of it'))}
        {input('priority', t('Priority'))}
      </div>
      <details>
        <summary>{t('More')}</summary>
        <div class="fields">
          {input('labels', t('Labels that its node must have'), { placeholder: 'zone=a' })}
          {input('deadline', t('Deadline, seconds from now'))}
          {input('estimate', t('Estimate, seconds'))}
        </div>
        <label>
          {t('Environment, NAME=VALUE in each line')}
          <textarea rows={3} class="mono" value={typed.env} onInput={(e) => change({ env: e.currentTarget.value })} />
        </label>
        <p class="boxes">
          {box('gpu', t('It needs a GPU'))}
          {box('local_only', t("It stays on the controller's node"))}
        </p>
      </details>
      <fieldset>
        <legend>{t('When its node is lost')}</legend>
        {choice('anew', t('it begins anew'))}
        {choice('standby', t('it goes on from a warm standby on another node'))}
        <div>
          {choice('snapshot', t('it goes on from its last snapshot, one every so many seconds:'))}
          <input
            class="short"
            name="snapshot_every"
            aria-label={t('Seconds from one snapshot to the next')}
            inputMode="decimal"
            value={typed.every}
            disabled={typed.lost !== 'snapshot'}
            aria-invalid={fault('snapshot_every') ? true : undefined}
            aria-describedby="wrong-snapshot_every"
            onInput={(e) => change({ every: e.currentTarget.value })}
          />
        </div>
        {fault('snapshot_every')}
      </fieldset>
      <p class="actions">
        <button class="main" disabled={busy}>
          {t('Submit')}
        </button>
        {touched.size > 0 && wrong.length > 0 && <span class="quiet">{t('{n} fields are to be seen to', { n: wrong.length })}</span>}
      </p>
    </form>
  );
}

const EXAMPLE = `{
  "name": "night",
  "tasks": [
    { "name": "queens", "image": "queens.wasm", "args": ["10"], "count": 4 },
    { "name": "sort", "image": "quicksort.wasm", "memory": 67108864, "priority": 1 }
  ]
}
`;

function Many({ programs, schemas }: { programs: Chosen[]; schemas: Schemas }) {
  const [text, setText] = useState(EXAMPLE);
  const [said, setSaid] = useState<Fault[]>([]);
  const [busy, setBusy] = useState(false);
  const area = useRef<HTMLTextAreaElement>(null);
  const now = useMemo(() => wanted(text, programs, schemas), [text, programs, schemas]);
  const faults = said.length ? said : now.faults;
  const change = (to: string) => {
    setText(to);
    setSaid([]);
  };
  const open = async (files: FileList | null) => {
    const file = files?.[0];
    if (file) change(await file.text());
  };
  const submit = async () => {
    if (!now.set) return;
    setBusy(true);
    try {
      await send(now.set);
    } catch (e) {
      if (e instanceof Problem) setSaid((e.errors.length ? e.errors : [{ field: '', message: e.message }]).map((one) => ({ ...one, place: find(now.places, one.field) })));
      complain(e);
    }
    setBusy(false);
  };
  const count = now.set?.tasks.reduce((sum, task) => sum + (task.count ?? 1), 0) ?? 0;
  return (
    <section class="form is-wide">
      <label>
        {t('A file, as for wayfare submit')}
        <input type="file" accept=".json,application/json" onChange={(e) => void open(e.currentTarget.files)} />
      </label>
      <Editor area={area} label={t('The set, as JSON')} text={text} set={change} faults={faults} />
      <Faults area={area} text={text} all={faults} />
      {now.set && <Preview set={now.set} />}
      <p class="actions">
        <button class="main" disabled={busy || !now.set} onClick={() => void submit()}>
          {count > 0 ? t('Submit {n} tasks', { n: count }) : t('Submit')}
        </button>
      </p>
    </section>
  );
}
