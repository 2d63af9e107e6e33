// All tasks: looked through, sorted, chosen, and something done with those that are chosen.
import { useMemo, useState } from 'preact/hooks';
import { ask, type State, type Task } from './api';
import { span } from './format';
import { t, told, type Text } from './i18n';
import { later } from './later';
import { go } from './router';
import { Rows, slot } from './rows';
import { isOver, ran, select, STATES, type Choice, type Column } from './select';
import { may, tasks, version } from './store';
import { Act, Mark, say, StateBadge, Sure, Title, useNow } from './ui';

// What the task page has, too.
const MoveTo = later(() => import('./move').then((part) => part.MoveTo));

const COLUMNS: [Column, Text][] = [
  ['name', 'Name'],
  ['state', 'State'],
  ['node', 'Node'],
  ['time', 'Time'],
  ['set', 'Set'],
  ['submitted', 'Why'],
];

export function Tasks({ query }: { query: URLSearchParams }) {
  const at = version.value;
  const now = useNow(1000);
  const [choice, setChoice] = useState<Choice>(() => ({
    text: query.get('text') ?? '',
    states: new Set(query.getAll('state').filter((state): state is State => (STATES as string[]).includes(state))),
    node: query.get('node') ?? undefined,
    set: query.get('set') ?? undefined,
    sort: 'submitted',
    down: true,
  }));
  const [chosen, setChosen] = useState<ReadonlySet<string>>(new Set());
  const [deleting, setDeleting] = useState(false);
  const [moving, setMoving] = useState<Task | undefined>();
  // By time they are in another order each second; by all else only when something changes.
  const tick = choice.sort === 'time' ? now : 0;
  const found = useMemo(() => select(tasks.values(), choice, Date.now()), [at, choice, tick]);
  const counts = useMemo(() => {
    const counts = new Map<State, number>();
    for (const task of tasks.values()) counts.set(task.state, (counts.get(task.state) ?? 0) + 1);
    return counts;
  }, [at]);
  const change = (to: Partial<Choice>) => setChoice((was) => ({ ...was, ...to }));
  const toggle = (state: State) => {
    const states = new Set(choice.states);
    if (!states.delete(state)) states.add(state);
    change({ states });
  };
  const mark = (name: string) => {
    const next = new Set(chosen);
    if (!next.delete(name)) next.add(name);
    setChosen(next);
  };
  const picked = [...chosen].map((name) => tasks.get(name)).filter((task) => task !== undefined);
  const alive = picked.filter((task) => !isOver(task.state));
  const free = picked.filter((task) => task.state === 'running' && !task.standby);
  const over = picked.filter((task) => isOver(task.state));
  const each = async (of: Task[], deed: (name: string) => Promise<unknown>, done: string) => {
    const wrong: string[] = [];
    // A few at a time: the browser has six connections.
    const queue = [...of];
    const work = async () => {
      for (let task = queue.pop(); task; task = queue.pop()) await deed(task.name).catch((e: Error) => wrong.push(e.message));
    };
    await Promise.all([work(), work(), work()]);
    setChosen(new Set());
    if (wrong.length) throw new Error(wrong.slice(0, 3).join('; '));
    say(done);
  };
  const all = found.length > 0 && found.every((task) => chosen.has(task.name));
  const operates = may('operate');
  const head = (
    <tr>
      {operates && (
        <th scope="col" class="check">
          <input type="checkbox" aria-label={t('Choose all that are shown')} checked={all} onChange={() => setChosen(all ? new Set() : new Set(found.map((task) => task.name)))} />
        </th>
      )}
      {COLUMNS.map(([column, text]) => (
        <th scope="col" key={column} class={`col-${column}`} aria-sort={choice.sort === column ? (choice.down ? 'descending' : 'ascending') : undefined}>
          <button class="plain" onClick={() => change({ sort: column, down: choice.sort === column ? !choice.down : column === 'submitted' || column === 'time' })}>
            {column === 'submitted' ? t('Submitted, and why') : t(text)}
            {choice.sort === column && <span aria-hidden="true">{choice.down ? ' ↓' : ' ↑'}</span>}
          </button>
        </th>
      ))}
    </tr>
  );
  return (
    <div class="full">
      <Title text={t('Tasks')}>
        <span class="quiet" data-found>
          {found.length === tasks.size ? found.length : t('{n} of {all}', { n: found.length, all: tasks.size })}
        </span>
      </Title>
      <div class="tools">
        <input type="search" placeholder={t('Search: name, set, node, arguments')} aria-label={t('Search')} value={choice.text} onInput={(e) => change({ text: e.currentTarget.value })} />
        <div class="chips" role="group" aria-label={t('States')}>
          {STATES.map((state) => (
            <button key={state} class="chip" aria-pressed={choice.states.has(state)} onClick={() => toggle(state)}>
              <Mark state={state} /> {t(state)} <span class="quiet">{counts.get(state) ?? 0}</span>
            </button>
          ))}
          {choice.node && (
            <button class="chip" aria-pressed="true" onClick={() => change({ node: undefined })}>
              {t('on {node}', { node: choice.node })} ×
            </button>
          )}
          {choice.set && (
            <button class="chip" aria-pressed="true" onClick={() => change({ set: undefined })}>
              {t('of {set}', { set: choice.set })} ×
            </button>
          )}
        </div>
        {operates && (
          <div class="actions">
            <span class="quiet">{t('{n} chosen', { n: picked.length })}</span>
            <Act disabled={!alive.length} act={() => each(alive, (name) => ask('post', '/v1/tasks/{name}/cancel', { name }), t('Cancelled.'))}>
              {t('Cancel')}
            </Act>
            <button disabled={picked.length !== 1 || picked[0]!.state !== 'running'} onClick={() => setMoving(picked[0])}>
              {t('Move to…')}
            </button>
            <Act disabled={!free.length} act={() => each(free, (name) => ask('post', '/v1/tasks/{name}/snapshots', { name }), t('{n} snapshots are kept.', { n: free.length }))}>
              {t('Capture')}
            </Act>
            <button disabled={!over.length} onClick={() => setDeleting(true)}>
              {t('Delete')}
            </button>
          </div>
        )}
      </div>
      <Rows
        label={t('Tasks')}
        items={found}
        columns={COLUMNS.length + (operates ? 1 : 0)}
        head={head}
        row={(task, i) => <Row key={slot(i)} task={task} index={i} now={now} chosen={chosen.has(task.name)} mark={operates ? mark : undefined} />}
      />
      {!found.length && <p class="empty quiet">{tasks.size ? t('No task is like that.') : t('No tasks yet.')}</p>}
      {deleting && (
        <Sure
          title={t('Delete {n} tasks?', { n: over.length })}
          text={t('They are over: what became of them, and what they have written, is forgotten.')}
          word={t('Delete')}
          close={() => setDeleting(false)}
          act={() => each(over, (name) => ask('delete', '/v1/tasks/{name}', { name }), t('Deleted.'))}
        />
      )}
      {moving && <MoveTo task={tasks.get(moving.name) ?? moving} close={() => setMoving(undefined)} />}
    </div>
  );
}

function Row({ task, index, now, chosen, mark }: { task: Task; index: number; now: number; chosen: boolean; mark?: (name: string) => void }) {
  const to = `/tasks/${encodeURIComponent(task.name)}`;
  return (
    <tr aria-rowindex={index + 2} class={chosen ? 'is-chosen' : undefined} data-task={task.name} onDblClick={() => go(to)}>
      {mark && (
        <td class="check">
          <input type="checkbox" aria-label={t('Choose {name}', { name: task.name })} checked={chosen} onChange={() => mark(task.name)} />
        </td>
      )}
      <td class="col-name">
        <a href={to}>{task.name}</a>
      </td>
      <td class="col-state">
        <StateBadge state={task.state} />
        {task.standby && <span class="tag" title={t('its standby is on {node}', { node: task.standby })}>{t('standby')}</span>}
      </td>
      <td class="col-node">
        {task.node ?? '—'}
        {task.to && ` → ${task.to}`}
        {task.gpu && <span class="tag">GPU</span>}
        {task.node && <span class="tag is-quiet">{task.offloaded ? t('offloaded') : t('local')}</span>}
      </td>
      <td class="col-time">
        {task.started != null ? span(ran(task, now)) : '—'}
        {task.estimate != null && task.started != null && !isOver(task.state) && <span class="quiet"> / {span(task.estimate * 1000)}</span>}
      </td>
      <td class="col-set">{task.set}</td>
      <td class="col-submitted" title={told(task.why)}>
        {told(task.why)}
      </td>
    </tr>
  );
}
