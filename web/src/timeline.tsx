// What became of a task: in words, and drawn, with what was done to it marked by shape as well as by colour.
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from 'preact/hooks';
import { ask, type Moment, type Snapshot, type Task } from './api';
import { bytes, span, time } from './format';
import { t, told, type Text } from './i18n';
import { KINDS, kind, marks, synced, type Kind, type Mark, type Sync } from './marks';
import { isOver } from './select';
import { standbys } from './store';
import { StateBadge } from './ui';

/** In a box of 12 by 12 around the middle. */
const SHAPES: Record<Kind, string> = {
  move: 'M-6-4.5L6 0-6 4.5z',
  failover: 'M0-6L6 0 0 6-6 0z',
  again: 'M-5-5h10v10h-10z',
  snapshot: 'M0-5a5 5 0 1 0 0 10A5 5 0 1 0 0-5',
  sync: 'M0-8v16',
};
const NAMES: Record<Kind, Text> = { move: 'move', failover: 'failover', again: 'new start', snapshot: 'snapshot', sync: 'sync' };

function Shape({ kind }: { kind: Kind }) {
  return (
    <svg class={`sign is-${kind}`} viewBox="-8 -8 16 16" aria-hidden="true">
      <path d={SHAPES[kind]} />
    </svg>
  );
}

/** Syncs that were seen since the page was opened: nobody keeps those before. */
function useSyncs(name: string): Sync[] {
  const [seen, setSeen] = useState<Sync[]>([]);
  const pairs = standbys.value;
  useEffect(() => {
    const now = Date.now();
    setSeen((was) => pairs.filter((pair) => pair.task === name).reduce((seen, pair) => synced(seen, pair, now), was));
  }, [pairs, name]);
  return seen;
}

export function Timeline({ task, snapshots, now }: { task: Task; snapshots: Snapshot[]; now: number }) {
  const [history, setHistory] = useState<Moment[]>([]);
  const { name } = task;
  useEffect(() => {
    ask('get', '/v1/tasks/{name}/history', { name }).then(setHistory, () => {});
    // A change of any of these is a moment.
  }, [name, task.state, task.node, task.why, task.attempt]);
  const syncs = useSyncs(name);
  const all = useMemo(() => marks(history, snapshots, syncs), [history, snapshots, syncs]);
  const pairs = standbys.value.filter((pair) => pair.task === name);
  return (
    <section>
      <h2>{t('What became of it')}</h2>
      <Lanes history={history} marks={all} now={now} />
      {pairs.map((pair) => (
        <p key={pair.standby} class="synced">
          <Shape kind="sync" />{' '}
          {pair.age != null ? t('syncs to {node}: {n}, the last {span} ago', { n: pair.syncs, node: pair.standby, span: span(pair.age) }) : t('no sync to {node} is complete yet', { node: pair.standby })}
        </p>
      ))}
      <ol class="timeline" tabIndex={0}>
        {lines(history, snapshots).map((line, i) => (
          <li key={i}>
            <time dateTime={new Date(line.at).toISOString()}>{time(line.at, now)}</time>
            {line.moment ? (
              <>
                <StateBadge state={line.moment.state} />
                <span>
                  {line.kind && (
                    <span class={`kind is-${line.kind}`}>
                      <Shape kind={line.kind} /> <span class="hidden">{t(NAMES[line.kind])}</span>
                    </span>
                  )}{' '}
                  {line.moment.node && <b>{line.moment.node}</b>} {told(line.moment.why)}
                  {line.moment.attempt > 1 && <span class="quiet"> · {t('start {n}', { n: line.moment.attempt })}</span>}
                </span>
              </>
            ) : (
              <>
                <span class="state">
                  <Shape kind="snapshot" /> {t('snapshot')}
                </span>
                <span>
                  <b>{line.snapshot.node}</b> {t('snapshot {id}: {bytes}, {span} of work', { id: line.snapshot.id, bytes: bytes(line.snapshot.bytes), span: span(line.snapshot.done * 1000) })}
                </span>
              </>
            )}
          </li>
        ))}
      </ol>
    </section>
  );
}

type Line = { at: number } & ({ moment: Moment; kind?: Kind; snapshot?: undefined } | { moment?: undefined; snapshot: Snapshot });

function lines(history: Moment[], snapshots: Snapshot[]): Line[] {
  const moments: Line[] = history.map((moment, i) => ({ at: moment.at, moment, kind: kind(moment, history[i - 1]) }));
  return [...moments, ...snapshots.map((snapshot) => ({ at: snapshot.at, snapshot }))].sort((a, b) => a.at - b.at);
}

const ROW = 26;
const LEFT = 90;
const RIGHT = 8;

/** A lane for each node, in which the times are drawn that the task was there, and what was done then. */
function Lanes({ history, marks, now }: { history: Moment[]; marks: Mark[]; now: number }) {
  const lane = (moment: Moment) => (moment.state === 'waiting' ? '' : (moment.node ?? ''));
  const names = [...new Set([...history.map(lane), ...marks.map((mark) => mark.node)])];
  // Drawn as wide as there is room, so that what is written in it is as large everywhere.
  const ref = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(600);
  useLayoutEffect(() => {
    const element = ref.current!;
    const observer = new ResizeObserver(() => setWidth(element.clientWidth || 600));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  if (history.length < 2) return <div ref={ref} />;
  const begin = history[0]!.at;
  const end = isOver(history.at(-1)!.state) ? history.at(-1)!.at : now;
  const whole = Math.max(1, end - begin);
  const x = (at: number) => LEFT + ((width - LEFT - RIGHT) * (Math.min(Math.max(at, begin), end) - begin)) / whole;
  const y = (node: string) => names.indexOf(node) * ROW + ROW / 2;
  const counts = KINDS.map((kind) => ({ kind, n: marks.filter((mark) => mark.kind === kind).length })).filter(({ n }) => n);
  // What is said of the whole; the list below has each with its words.
  const said = counts.map(({ kind, n }) => `${t(NAMES[kind])}: ${n}`).join(', ');
  return (
    <div ref={ref}>
      <svg class="lanes" viewBox={`0 0 ${width} ${names.length * ROW + 2}`} role="img" aria-label={`${t('What became of it')}: ${said || t('no mark')}`}>
        {names.map((name) => (
          <text key={name} x="0" y={y(name) + 4}>
            {name || t('waiting')}
          </text>
        ))}
        {history.map((moment, i) => {
          const until = history[i + 1]?.at ?? end;
          return !isOver(moment.state) && <rect key={i} class={`is-${moment.state}`} x={x(moment.at)} y={y(lane(moment)) - 6} width={Math.max(2, x(until) - x(moment.at))} height="12" rx="2" />;
        })}
        {marks.map((mark, i) => (
          <path key={i} class={`sign is-${mark.kind}`} data-mark={mark.kind} d={SHAPES[mark.kind]} transform={`translate(${x(mark.at)} ${y(mark.node)})`}>
            <title>{[`${time(mark.at, now)} ${t(NAMES[mark.kind])}`, mark.cost && t('stood still for {span}', { span: span(mark.cost.downtime) }), mark.cost && bytes(mark.cost.bytes)].filter(Boolean).join(', ')}</title>
          </path>
        ))}
      </svg>
      {counts.length > 0 && (
        <p class="legend">
          {counts.map(({ kind, n }) => (
            <span key={kind}>
              <Shape kind={kind} /> {t(NAMES[kind])} <span class="quiet">{n}</span>
            </span>
          ))}
        </p>
      )}
    </div>
  );
}
