// A plan of a set before it is sent: when each task would run and where, drawn as lanes of time.
import { useEffect, useMemo, useState } from 'preact/hooks';
import type { Plan, SetRequest } from './api';
import { span } from './format';
import { t } from './i18n';
import { lanes, plan } from './planned';
import { complain } from './ui';

const LANE = 20;
const LEFT = 110;
const WIDE = 980;
/** Tasks that are drawn. */
const DRAWN = 3000;

export function Preview({ set }: { set: SetRequest }) {
  const [made, setMade] = useState<Plan | undefined>();
  const [busy, setBusy] = useState(false);
  // The plan of another text is none of this one.
  useEffect(() => setMade(undefined), [set]);
  const make = () => {
    setBusy(true);
    plan(set)
      .then(setMade, complain)
      .finally(() => setBusy(false));
  };
  return (
    <section>
      <p class="actions">
        <button disabled={busy} onClick={make}>
          {t('Plan it')}
        </button>
        {made && (
          <span class="quiet" role="status">
            {t('done in {span}; no plan is done before {least}', { span: span(made.makespan_s * 1000), least: span(made.lower_bound_s * 1000) })}
            {made.late > 0 && `; ${t('{n} late', { n: made.late })}`}
          </span>
        )}
      </p>
      {made && made.refused.length > 0 && (
        <ul class="faults">
          {made.refused.slice(0, 20).map(({ name, why }) => (
            <li key={name}>
              <b>{name}</b> {why}
            </li>
          ))}
        </ul>
      )}
      {made && made.tasks.length > 0 && <Gantt made={made} />}
    </section>
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
                    <title>{`${task.name}: ${span(task.start_s * 1000)} – ${span(task.end_s * 1000)}. ${task.why}`}</title>
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
