// One task: what it is, what became of it, what it uses, and what it writes.
import { useEffect, useRef, useState } from 'preact/hooks';
import { ask, follow, Problem, type Moment, type Node, type Task } from './api';
import { Chart } from './chart';
import { bytes, cores, rate, span, time } from './format';
import { t, told } from './i18n';
import { MoveTo } from './move';
import { go } from './router';
import { isOver, ran } from './select';
import { may, nodes, standbys, tasks, version } from './store';
import { Act, Dialog, StateBadge, Sure, Title, useNow } from './ui';

export function OneTask({ name }: { name: string }) {
  void version.value;
  const now = useNow(500);
  const [dialog, setDialog] = useState<'move' | 'delete' | 'protect' | undefined>();
  const task = tasks.get(name);
  const close = () => setDialog(undefined);
  if (!task) return <Title text={name}><span class="quiet">{t('There is no task of this name.')}</span></Title>;
  const over = isOver(task.state);
  const pairs = standbys.value.filter((pair) => pair.task === name);
  return (
    <>
      <Title text={task.name}>
        <StateBadge state={task.state} />
      </Title>
      {may('operate') && (
        <p class="actions">
          <button disabled={task.state !== 'running'} onClick={() => setDialog('move')}>
            {t('Move to…')}
          </button>
          {!over && (
            <Act act={() => ask('post', '/v1/tasks/{name}/cancel', { name })} done={t('Cancelled.')}>
              {t('Cancel')}
            </Act>
          )}
          {task.state === 'running' && !pairs.length && (
            <button onClick={() => setDialog('protect')}>{t('Give it a standby…')}</button>
          )}
          {pairs.length > 0 && (
            <>
              <Act act={() => ask('post', '/v1/standbys/{task}/failover', { task: name })} done={t('It goes on at its standby.')}>
                {t('Fail over')}
              </Act>
              <Act act={() => ask('delete', '/v1/standbys/{task}', { task: name })} done={t('It has no standby any more.')}>
                {t('Take its standby away')}
              </Act>
            </>
          )}
          {over && <button onClick={() => setDialog('delete')}>{t('Delete')}</button>}
        </p>
      )}
      <Facts task={task} now={now} />
      <div class="two">
        <Timeline task={task} now={now} />
        <Figures task={task} />
      </div>
      <Log key={task.attempt} name={name} state={task.state} />
      {dialog === 'move' && <MoveTo task={task} close={close} />}
      {dialog === 'protect' && <Protect task={task} close={close} />}
      {dialog === 'delete' && (
        <Sure
          title={t('Delete {name}?', { name })}
          text={t('They are over: what became of them, and what they have written, is forgotten.')}
          word={t('Delete')}
          close={close}
          act={async () => {
            await ask('delete', '/v1/tasks/{name}', { name });
            go('/tasks');
          }}
        />
      )}
    </>
  );
}

function Facts({ task, now }: { task: Task; now: number }) {
  const node = task.node && <a href={`/nodes/${encodeURIComponent(task.node)}`}>{task.node}</a>;
  const share = task.estimate && task.started != null && !isOver(task.state) ? ran(task, now) / (task.estimate * 1000) : undefined;
  return (
    <dl class="facts">
      <dt>{t('Node')}</dt>
      <dd data-fact="node">
        {node || '—'}
        {task.to && ` → ${task.to}`} {task.node && <span class="tag is-quiet">{task.offloaded ? t('offloaded') : t('local')}</span>}
      </dd>
      <dt>{t('Why')}</dt>
      <dd data-fact="why">{told(task.why) || '—'}</dd>
      <dt>{t('Time')}</dt>
      <dd>
        {task.started != null ? span(ran(task, now)) : '—'}
        {share !== undefined && (
          <span class="quiet">
            {' '}
            {t('of about {span}', { span: span(task.estimate! * 1000) })} <progress max={1} value={Math.min(1, share)} aria-label={t('Progress, by the estimate')} />
          </span>
        )}
      </dd>
      <dt>{t('Submitted')}</dt>
      <dd>
        {time(task.submitted, now)} {t('by {owner}', { owner: task.owner })}, {t('set')} <a href={`/tasks?set=${encodeURIComponent(task.set)}`}>{task.set}</a>
      </dd>
      <dt>{t('Counts for')}</dt>
      <dd>
        {t('{n} processors', { n: cores(task.cores) })}, {bytes(task.memory)}
        {task.gpu && <span class="tag">GPU</span>}
        {task.labels.map((label) => (
          <span key={label} class="tag">
            {label}
          </span>
        ))}
        {task.priority !== 0 && `, ${t('priority {n}', { n: task.priority })}`}
      </dd>
      <dt>{t('Program')}</dt>
      <dd>
        <code class="digest" title={task.image}>
          {task.image.slice(0, 16)}…
        </code>{' '}
        <code>{task.args.map((arg) => (/^[\w./:=+-]+$/.test(arg) ? arg : JSON.stringify(arg))).join(' ')}</code>
      </dd>
      {task.standby && (
        <>
          <dt>{t('Standby')}</dt>
          <dd>{task.standby}</dd>
        </>
      )}
      {task.status != null && (
        <>
          <dt>{t('Status')}</dt>
          <dd>{task.status}</dd>
        </>
      )}
    </dl>
  );
}

function Timeline({ task, now }: { task: Task; now: number }) {
  const [all, setAll] = useState<Moment[]>([]);
  useEffect(() => {
    ask('get', '/v1/tasks/{name}/history', { name: task.name }).then(setAll, () => {});
    // A change of any of these is a moment.
  }, [task.name, task.state, task.node, task.why, task.attempt]);
  return (
    <section>
      <h2>{t('What became of it')}</h2>
      <Lanes all={all} now={now} />
      <ol class="timeline" tabIndex={0}>
        {all.map((moment, i) => (
          <li key={i}>
            <time dateTime={new Date(moment.at).toISOString()}>{time(moment.at, now)}</time>
            <StateBadge state={moment.state} />
            <span>
              {moment.node && <b>{moment.node}</b>} {told(moment.why)}
              {moment.attempt > 1 && <span class="quiet"> · {t('start {n}', { n: moment.attempt })}</span>}
            </span>
          </li>
        ))}
      </ol>
    </section>
  );
}

/** A lane for each node, in which the times are drawn that the task was there. */
function Lanes({ all, now }: { all: Moment[]; now: number }) {
  const names = [...new Set(all.map((moment) => (moment.state === 'waiting' ? '' : (moment.node ?? ''))))];
  if (all.length < 2) return null;
  const begin = all[0]!.at;
  const end = isOver(all.at(-1)!.state) ? all.at(-1)!.at : now;
  const whole = Math.max(1, end - begin);
  const x = (at: number) => 90 + (500 * (at - begin)) / whole;
  return (
    <svg class="lanes" viewBox={`0 0 600 ${names.length * 24 + 4}`} aria-hidden="true">
      {names.map((name, i) => (
        <text key={name} x="0" y={i * 24 + 17}>
          {name || t('waiting')}
        </text>
      ))}
      {all.map((moment, i) => {
        const y = names.indexOf(moment.state === 'waiting' ? '' : (moment.node ?? '')) * 24 + 6;
        const until = all[i + 1]?.at ?? end;
        return !isOver(moment.state) && <rect key={i} class={`is-${moment.state}`} x={x(moment.at)} y={y} width={Math.max(2, x(until) - x(moment.at))} height="14" rx="2" />;
      })}
    </svg>
  );
}

const KEPT = 300;

interface Sample {
  at: number;
  cpu: number | null;
  memory: number | null;
  age: number | null;
  interval: number | null;
  link: number | null;
}

/** What it uses: its node is asked every second while the page is looked at. */
function Figures({ task }: { task: Task }) {
  const [samples, setSamples] = useState<Sample[]>([]);
  const alive = task.state === 'running' || task.state === 'moving';
  const node = task.node;
  useEffect(() => {
    if (!alive || !node) return;
    let last: { ran: number; at: number } | undefined;
    let ended = false;
    const look = async () => {
      if (document.hidden) return;
      const found = await ask('get', '/v1/nodes/{name}/tasks', { name: node }).catch(() => undefined);
      const on = found?.find((one) => one.name === task.name);
      if (!on || ended) return;
      const at = Date.now();
      const cpu = last && on.ran >= last.ran ? (on.ran - last.ran) / (at - last.at) : null;
      last = { ran: on.ran, at };
      const pair = standbys.value.find((pair) => pair.task === task.name);
      const sample = { at: at / 1000, cpu, memory: on.memory, age: pair?.age ?? null, interval: pair?.interval ?? null, link: pair?.bandwidth ?? null };
      // A chart of one point would have no width.
      const blank = { at: sample.at - 60, cpu: null, memory: null, age: null, interval: null, link: null };
      setSamples((was) => (was.length ? [...was.slice(1 - KEPT), sample] : [blank, sample]));
    };
    void look();
    const timer = setInterval(look, 1000);
    return () => {
      ended = true;
      clearInterval(timer);
    };
  }, [alive, node, task.name]);
  const times = samples.map((sample) => sample.at);
  const guarded = samples.some((sample) => sample.interval !== null || sample.age !== null);
  const of = (key: Exclude<keyof Sample, 'at'>) => samples.map((sample) => sample[key]);
  return (
    <section>
      <h2>{t('What it uses')}</h2>
      {!samples.length ? (
        <p class="quiet">{alive ? t('Its node is being asked.') : t('It does not run.')}</p>
      ) : (
        <>
          <Chart title={t('Run time, seconds a second')} times={times} series={[{ label: t('run time'), colour: '--blue', values: of('cpu') }]} show={(n) => n.toFixed(2)} />
          <Chart title={t('Memory')} times={times} series={[{ label: t('memory'), colour: '--green', values: of('memory') }]} show={bytes} />
          {guarded && (
            <>
              <Chart
                title={t('Standby')}
                times={times}
                series={[
                  { label: t('age'), colour: '--amber', values: of('age') },
                  { label: t('interval'), colour: '--blue', values: of('interval') },
                ]}
                show={span}
              />
              <Chart title={t('Link')} times={times} series={[{ label: t('measured'), colour: '--violet', values: of('link') }]} show={rate} />
            </>
          )}
        </>
      )}
    </section>
  );
}

const LOG_MAX = 256 << 10;

function Log({ name, state }: { name: string; state: Task['state'] }) {
  const [text, setText] = useState('');
  const [wrong, setWrong] = useState('');
  const [tail, setTail] = useState(true);
  const ref = useRef<HTMLPreElement>(null);
  const begun = state !== 'waiting' && state !== 'starting';
  const over = isOver(state);
  useEffect(() => {
    if (!begun) return;
    const stop = new AbortController();
    let kept = '';
    let timer: ReturnType<typeof setTimeout> | undefined;
    const show = () => {
      timer = undefined;
      setText(kept);
    };
    const read = async () => {
      for (;;) {
        kept = '';
        try {
          await follow(name, stop.signal, (more) => {
            kept = (kept + more).slice(-LOG_MAX);
            timer ??= setTimeout(show, 50);
          });
          setWrong('');
        } catch (e) {
          if (stop.signal.aborted) return;
          setWrong(e instanceof Problem ? told(e.message) : t('the log was cut off'));
        }
        // Its node ends the log when the task leaves: it goes on from where that is.
        if (over || stop.signal.aborted) return;
        await new Promise((go) => setTimeout(go, 1000));
      }
    };
    void read();
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [name, begun, over]);
  useEffect(() => {
    if (tail && ref.current) ref.current.scrollTop = ref.current.scrollHeight;
  }, [text, tail]);
  return (
    <section>
      <h2>
        {t('Log')}{' '}
        <label class="inline">
          <input type="checkbox" checked={tail} onChange={(e) => setTail(e.currentTarget.checked)} /> {t('follow')}
        </label>
      </h2>
      <pre class="log" ref={ref} tabIndex={0} role="log" aria-label={t('Log')} aria-live="off">
        {text || <span class="quiet">{begun ? t('nothing yet') : t('it has not begun')}</span>}
      </pre>
      {wrong && <p class="wrong">{wrong}</p>}
    </section>
  );
}

function Protect({ task, close }: { task: Task; close: () => void }) {
  const can = (node: Node) => node.name !== task.node && node.state === 'ready';
  const all = [...nodes.values()].filter(can).map((node) => node.name);
  const [to, setTo] = useState(all[0] ?? '');
  return (
    <Dialog title={t('Give it a standby…')} close={close}>
      <p class="quiet">{t('Its state goes to that node again and again while it runs, and when its own is lost it goes on there.')}</p>
      <label>
        {t('Node')}
        <select value={to} onChange={(e) => setTo(e.currentTarget.value)}>
          {all.map((name) => (
            <option key={name}>{name}</option>
          ))}
        </select>
      </label>
      <p class="actions">
        <Act class="main" disabled={!to} act={() => ask('post', '/v1/standbys/{task}', { task: task.name }, { standbys: [to] }).then(close)} done={t('It has a standby on {node}.', { node: to })}>
          {t('Give it a standby')}
        </Act>
      </p>
    </Dialog>
  );
}
