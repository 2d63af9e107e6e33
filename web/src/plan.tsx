// A plan of a set before it is sent: when each task would run and where, drawn as lanes of time.
import { useEffect, useMemo, useState } from 'preact/hooks';
import { Problem, type Plan, type SetRequest } from './api';
import { span } from './format';
import { t, told } from './i18n';
import { lanes, more, plan, POLICIES, type Planned, type Policy } from './planned';
import { complain } from './ui';

const LANE = 20;
const LEFT = 110;
const WIDE = 980;
/** Tasks that are drawn. */
const DRAWN = 3000;

/** Seeds of this many digits can be told to everybody. */
const SEED_MAX = Number.MAX_SAFE_INTEGER;

export function Preview({ set }: { set: SetRequest }) {
  const [made, setMade] = useState<Planned | undefined>();
  const [wrong, setWrong] = useState<string[]>([]);
  const [busy, setBusy] = useState(false);
  const [policy, setPolicy] = useState<Policy>('list');
  const [seed, setSeed] = useState('0');
  const number = /^\d+$/.test(seed.trim()) ? Number(seed) : NaN;
  const isGood = number <= SEED_MAX;
  // The plan of another text, or by other rules, is none of this one.
  useEffect(() => {
    setMade(undefined);
    setWrong([]);
  }, [set, policy, seed]);
  const make = async () => {
    setBusy(true);
    setWrong([]);
    try {
      setMade(await plan(set, policy, number));
    } catch (e) {
      setMade(undefined);
      if (e instanceof Problem && e.errors.length) setWrong(e.errors.map(({ message }) => message));
      else complain(e);
    }
    setBusy(false);
  };
  return (
    <section class="preview">
      <div class="actions">
        <label>
          {t('Policy')}
          <select value={policy} onChange={(e) => setPolicy(e.currentTarget.value as Policy)}>
            {POLICIES.map((name) => (
              <option key={name} value={name}>
                {name === 'list' ? `${name} (${t('as the controller does')})` : name}
              </option>
            ))}
          </select>
        </label>
        <label>
          {t('Seed')}
          <input class="short" inputMode="numeric" value={seed} aria-invalid={isGood ? undefined : true} onInput={(e) => setSeed(e.currentTarget.value)} />
        </label>
        <button disabled={busy || !isGood} onClick={() => void make()}>
          {t('Plan it')}
        </button>
        {made && (
          <span class="quiet" role="status">
            {t('done in {span}; no plan is done before {least}', { span: span(made.plan.makespan_s * 1000), least: span(made.plan.lower_bound_s * 1000) })}
            {made.plan.late > 0 && `; ${t('{n} late', { n: made.plan.late })}`}
          </span>
        )}
      </div>
      {wrong.length > 0 && (
        <ul class="faults">
          {wrong.map((message) => (
            <li key={message}>{told(message)}</li>
          ))}
        </ul>
      )}
      {made?.usual && <Compared made={made.plan} usual={made.usual} />}
      {made && made.plan.refused.length > 0 && (
        <ul class="faults">
          {made.plan.refused.slice(0, 20).map(({ name, why }) => (
            <li key={name}>
              <b>{name}</b> {told(why)}
            </li>
          ))}
        </ul>
      )}
      {made && made.plan.tasks.length > 0 && <Gantt made={made.plan} />}
    </section>
  );
}

/** What was asked for beside what the controller's own way gives. */
function Compared({ made, usual }: { made: Plan; usual: Plan }) {
  const row = (text: string, plan: Plan, name: string) => (
    <tr data-plan={name}>
      <th scope="row">{text}</th>
      {(['makespan_s', 'mean_response_s'] as const).map((key) => (
        <td key={key} class="number">
          {span(plan[key] * 1000)} {plan !== usual && <span class={plan[key] > usual[key] ? 'wrong' : 'quiet'}>{more(plan[key], usual[key])}</span>}
        </td>
      ))}
    </tr>
  );
  return (
    <table class="compared">
      <thead>
        <tr>
          <td />
          <th scope="col" class="number">{t('Makespan')}</th>
          <th scope="col" class="number">{t('Mean response')}</th>
        </tr>
      </thead>
      <tbody>
        {row(`${made.policy}, ${t('seed {n}', { n: made.seed })}`, made, 'made')}
        {row(`${usual.policy}, ${t('seed {n}', { n: usual.seed })} (${t('as the controller does')})`, usual, 'usual')}
      </tbody>
    </table>
  );
}

function Gantt({ made }: { made: Plan }) {
  const all = useMemo(() => lanes(made.tasks.slice(0, DRAWN)), [made]);
  const end = Math.max(1e-9, ...all.map((lane) => lane.tasks.at(-1)!.end_s));
  const x = (s: number) => LEFT + ((WIDE - LEFT - 4) * s) / end;
  const height = all.length * LANE + 24;
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label={t('The plan')}>
      <svg class="gantt" viewBox={`0 0 ${WIDE} ${height}`} width={WIDE} height={height}>
        {[0, 0.25, 0.5, 0.75, 1].map((part) => (
          <g key={part}>
            <line x1={x(part * end)} x2={x(part * end)} y1={0} y2={height - 20} />
            <text x={x(part * end)} y={height - 6} text-anchor={part === 1 ? 'end' : part ? 'middle' : 'start'}>
              {part ? span(part * end * 1000) : t('now')}
            </text>
          </g>
        ))}
        {all.map((lane, i) => (
          <g key={i}>
            {all[i - 1]?.node !== lane.node && (
              <text x="0" y={i * LANE + 14}>
                {lane.node}
              </text>
            )}
            {lane.tasks.map((task) => {
              const width = Math.max(1.5, x(task.end_s) - x(task.start_s) - 1);
              return (
                <g key={task.name} class={task.late ? 'is-late' : undefined} data-planned={task.name}>
                  <rect x={x(task.start_s)} y={i * LANE + 2} width={width} height={LANE - 4} rx="2">
                    <title>{`${task.name}: ${span(task.start_s * 1000)} – ${span(task.end_s * 1000)}. ${told(task.why)}`}</title>
                  </rect>
                  {width > task.name.length * 7 + 8 && (
                    <text class="name" x={x(task.start_s) + 4} y={i * LANE + 14}>
                      {task.name}
                    </text>
                  )}
                </g>
              );
            })}
          </g>
        ))}
      </svg>
      {made.tasks.length > DRAWN && <p class="quiet">{t('The first {n} of {all} tasks are drawn.', { n: DRAWN, all: made.tasks.length })}</p>}
    </div>
  );
}
