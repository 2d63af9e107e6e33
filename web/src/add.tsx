// How machines become nodes: a command for each, of those that have a system; an image, of those that have none.
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { ask, image, Problem, type Invitation, type Unikernel } from './api';
import { useDescription } from './description';
import { Editor, Faults } from './editor';
import { bytes, clock } from './format';
import { t, told, type Text } from './i18n';
import { faults, script, wishes } from './invited';
import { nodes } from './store';
import { Act, complain, Copied, Dialog } from './ui';
import type { Fault } from './wanted';

const INVITED_MAX = 100;
const NAME = /^[A-Za-z0-9][A-Za-z0-9-]{0,62}$/;
const KINDS = { some: 'Commands', many: 'A list, as JSON', bare: 'Bare machines' } as const satisfies Record<string, Text>;

export function Add({ close }: { close: () => void }) {
  const [kind, setKind] = useState<keyof typeof KINDS>('some');
  return (
    <Dialog title={t('Add nodes')} close={close}>
      <div class="tabs" role="tablist">
        {Object.entries(KINDS).map(([key, text]) => (
          <button key={key} role="tab" aria-selected={kind === key} onClick={() => setKind(key as keyof typeof KINDS)}>
            {t(text)}
          </button>
        ))}
      </div>
      {kind === 'some' ? <Some /> : kind === 'many' ? <Many /> : <Bare />}
    </Dialog>
  );
}

function Some() {
  const [count, setCount] = useState(1);
  const [made, setMade] = useState<Invitation[]>([]);
  const [name, setName] = useState('');
  const called = (i: number) => (count > 1 ? `${name}${i + 1}` : name);
  const all = Array.from({ length: count }, (_, i) => called(i));
  const wrong = !name ? '' : !all.every((one) => NAME.test(one)) ? "cannot be a node's name: use letters, digits and '-'" : '';
  const taken = all.find((one) => nodes.has(one));
  const fault = wrong || (taken ? `there is a node named ${taken} already` : '');
  const invite = async () => {
    if (name) return setMade(await ask('post', '/v1/invitations', {}, { nodes: all.map((name) => ({ name, labels: [] })) }));
    const made: Invitation[] = [];
    for (let i = 0; i < count; i++) made.push(...(await ask('post', '/v1/invitations', {})));
    setMade(made);
  };
  return (
    <>
      <p class="quiet">{t('Each machine needs a command of its own: it is good once, and for an hour.')}</p>
      <div class="fields">
        <label>
          {t('Machines')}
          <input type="number" min={1} max={INVITED_MAX} value={count} onInput={(e) => setCount(Math.max(1, Math.min(INVITED_MAX, Math.floor(e.currentTarget.valueAsNumber) || 1)))} />
        </label>
        <label>
          {t('Name')}
          <input value={name} placeholder="NAME" aria-invalid={fault ? true : undefined} spellcheck={false} onInput={(e) => setName(e.currentTarget.value)} />
          {fault && <span class="wrong">{told(fault)}</span>}
        </label>
      </div>
      <p class="actions">
        <Act class="main" disabled={!!fault} act={invite}>
          {t('Show the command')}
        </Act>
      </p>
      {made.length > 0 && <Commands all={made} />}
    </>
  );
}

const EXAMPLE = `[
  { "name": "gw1", "labels": ["zone=a"] },
  { "name": "gw2", "labels": ["zone=b", "gpu"] }
]
`;

function Many() {
  const schemas = useDescription();
  const [text, setText] = useState(EXAMPLE);
  const [said, setSaid] = useState<Fault[]>([]);
  const [made, setMade] = useState<Invitation[]>([]);
  const area = useRef<HTMLTextAreaElement>(null);
  const now = useMemo(() => wishes(text, nodes, schemas), [text, schemas, nodes.size]);
  const wrong = said.length ? said : now.faults;
  const change = (to: string) => {
    setText(to);
    setSaid([]);
  };
  const invite = async () => {
    try {
      setMade(await ask('post', '/v1/invitations', {}, { nodes: now.nodes! }));
    } catch (e) {
      if (e instanceof Problem) setSaid(faults(e.errors, now.places));
      throw e;
    }
  };
  if (made.length) return <Commands all={made} />;
  return (
    <div class="form">
      <p class="quiet">{t('A name for each machine, and the labels that its node has as soon as it has joined.')}</p>
      <label>
        {t('A file, as for wayfare node invite --nodes')}
        <input type="file" accept=".json,application/json" onChange={(e) => void e.currentTarget.files?.[0]?.text().then(change, complain)} />
      </label>
      <Editor area={area} label={t('The nodes, as JSON')} text={text} set={change} faults={wrong} />
      <Faults area={area} text={text} all={wrong} />
      <p class="actions">
        <Act class="main" disabled={!now.nodes} act={invite}>
          {now.nodes ? t('Invite {n} nodes', { n: now.nodes.length }) : t('Invite')}
        </Act>
      </p>
    </div>
  );
}

/** What is to be typed, on which machine. */
function Commands({ all }: { all: Invitation[] }) {
  // They hold from when they were made.
  const until = useMemo(() => new Date(Date.now() + all[0]!.ttl * 1000), [all]);
  const isNamed = all.every(({ name }) => name);
  return (
    <>
      <p>
        {t('Type on the machine, as the user that is to run tasks:')} <span class="quiet">{t('good until {time}', { time: clock(until) })}</span>
      </p>
      <ul class="commands">
        {all.map(({ name, command, join }) => (
          <li key={join}>
            {isNamed && all.length > 1 && <b>{name}</b>}
            <Copied text={command} />
          </li>
        ))}
      </ul>
      {all.length > 1 && (
        <p class="actions">
          <Copied bare text={all.map(({ command }) => command).join('\n')} />
          {isNamed && (
            <button onClick={() => save('join.sh', new Blob([script(all, until)], { type: 'text/x-shellscript' }))}>{t('Download as a script')}</button>
          )}
          {isNamed && (
            <span class="quiet">
              {t('the same for all machines:')} <code>sh join.sh {all[0]!.name}</code>
            </span>
          )}
        </p>
      )}
    </>
  );
}

const FORMS: Record<string, Text> = { elf: 'ELF: QEMU, GRUB', iso: "ISO: a PC's USB stick or disc", raw: 'flat: U-Boot, Raspberry Pi' };

function Bare() {
  const [all, setAll] = useState<Unikernel[]>([]);
  const [name, setName] = useState('');
  const [where, setWhere] = useState('');
  const [forms, setForms] = useState<Record<string, string>>({});
  const [last, setLast] = useState('');
  useEffect(() => {
    ask('get', '/v1/unikernels', {}).then(setAll, complain);
  }, []);
  const fault = !name || NAME.test(name) ? (nodes.has(name) ? `there is a node named ${name} already` : '') : "cannot be a node's name: use letters, digits and '-'";
  const get = async (one: Unikernel) => {
    const made = await image(one.isa, { name, address: where, format: forms[one.isa] ?? one.formats[0]! });
    save(made.name, made.file);
    setLast(made.name);
    // Its name is used up.
    setName('');
  };
  return (
    <>
      <p class="quiet">{t('Bare x86-64, AArch64 and RISC-V machines boot Wayfare alone. An image has its node in it, key and all, and that joins when a machine boots it: give it to one machine, and keep it as you keep a key.')}</p>
      <div class="fields">
        <label>
          {t('Name')}
          <input value={name} placeholder="board1" aria-invalid={fault ? true : undefined} spellcheck={false} onInput={(e) => setName(e.currentTarget.value)} />
          {fault && <span class="wrong">{told(fault)}</span>}
        </label>
        <label>
          {t('Its address, if others do not see it as it sees itself')}
          <input value={where} placeholder="192.0.2.9:7600" spellcheck={false} onInput={(e) => setWhere(e.currentTarget.value)} />
        </label>
      </div>
      <ul class="images">
        {all.map((one) => (
          <li key={one.isa} data-isa={one.isa} class={one.missing ? 'quiet' : undefined}>
            <b>{one.isa}</b>
            {one.missing ? (
              <span class="why">{told(one.missing)}</span>
            ) : (
              <>
                <select aria-label={t('Form of the image for {isa}', { isa: one.isa })} value={forms[one.isa] ?? one.formats[0]} onChange={(e) => setForms({ ...forms, [one.isa]: e.currentTarget.value })}>
                  {one.formats.map((form) => (
                    <option key={form} value={form}>
                      {FORMS[form] ? t(FORMS[form]) : form}
                    </option>
                  ))}
                </select>
                <span class="quiet">{bytes(one.bytes!)}</span>
              </>
            )}
            <Act disabled={!!one.missing || !!fault} aria-label={t('Download the image for {isa}', { isa: one.isa })} act={() => get(one)}>
              {t('Download')}
            </Act>
          </li>
        ))}
      </ul>
      {last && (
        <p role="status">
          {t('To try it in QEMU:')} <code>wayfare unikernel run {last}</code>
        </p>
      )}
    </>
  );
}

/** Has the browser keep a file. */
function save(name: string, file: Blob) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(file);
  link.download = name;
  link.click();
  // Not before the browser has begun to read it.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
