// One task: what it is, what became of it, what it uses, its snapshots, and what it writes.
import { useEffect, useRef, useState } from 'preact/hooks';
import { ask, follow, Problem, type Node, type Snapshot, type Task } from './api';
import { bytes, cores, span, time } from './format';
import { t, told } from './i18n';
import { MoveTo } from './move';
import { go } from './router';
import { isOver, ran } from './select';
import { capture, Snapshots, useSnapshots } from './snapshots';
import { may, nodes, standbys, tasks, version } from './store';
import { Timeline } from './timeline';
import { Act, Dialog, StateBadge, Sure, Title, useNow } from './ui';
import { Figures } from './usage';

export function OneTask({ name }: { name: string }) {
  void version.value;
  const now = useNow(500);
  const [dialog, setDialog] = useState<'move' | 'delete' | 'protect' | undefined>();
  const task = tasks.get(name);
  const album = useSnapshots(task);
  const close = () => setDialog(undefined);
  if (!task) return <Title text={name}><span class="quiet">{t('There is no task of this name.')}</span></Title>;
  const over = isOver(task.state);
  const pairs = standbys.value.filter((pair) => pair.task === name);
  const guarded = pairs.length > 0 || task.standby != null;
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
          <Act disabled={task.state !== 'running' || guarded} title={guarded ? t('It has a standby, which is up to date as it is.') : undefined} act={() => capture(name).then(album.look)}>
            {t('Capture')}
          </Act>
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
      <Facts task={task} snapshots={album.all} now={now} />
      <div class="two">
        <Timeline task={task} snapshots={album.all} now={now} />
        <Figures task={task} />
      </div>
      <Snapshots task={task} album={album} now={now} />
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

function Facts({ task, snapshots, now }: { task: Task; snapshots: Snapshot[]; now: number }) {
  const from = snapshots.find((snapshot) => snapshot.id === task.snapshot);
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
      {(task.snapshot_every != null || task.snapshot != null) && (
        <>
          <dt>{t('Snapshots')}</dt>
          <dd data-fact="snapshot">
            {task.snapshot_every != null && t('one every {span}', { span: span(task.snapshot_every * 1000) })}
            {task.snapshot_every != null && task.snapshot != null && ', '}
            {task.snapshot != null && t('it went on from number {id}', { id: task.snapshot })}
            {from && `, ${time(from.at, now)}`}
          </dd>
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
