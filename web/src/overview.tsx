// What there is, at a glance: figures, what needs attention, and the cluster drawn.
import { useMemo } from 'preact/hooks';
import { bytes, cores, span } from './format';
import { t, told } from './i18n';
import { ClusterMap } from './map';
import { STATES } from './select';
import { taken } from './changes';
import { nodes, standbys, tasks, version } from './store';
import { Bar, Mark, Title } from './ui';
import type { State } from './api';

/** A standby's state that is older than this many of its intervals is worth a look. */
const STALE = 4;
/** Of each kind. */
const SHOWN = 5;

export function Overview() {
  const at = version.value;
  const sums = useMemo(() => {
    const counts = new Map<State, number>(STATES.map((state) => [state, 0]));
    for (const task of tasks.values()) counts.set(task.state, counts.get(task.state)! + 1);
    const by = taken(tasks.values());
    const sum = { cores: 0, coresTaken: 0, memory: 0, memoryTaken: 0, ready: 0 };
    for (const node of nodes.values()) {
      if (node.state === 'lost') continue;
      if (node.state === 'ready') sum.ready++;
      sum.cores += node.cores;
      sum.memory += node.memory;
      sum.coresTaken += by.get(node.name)?.cores ?? 0;
      sum.memoryTaken += by.get(node.name)?.memory ?? 0;
    }
    return { counts, by, ...sum };
  }, [at]);
  return (
    <>
      <Title text={t('Overview')} />
      <section class="figures" aria-label={t('Figures')}>
        <ul class="counts">
          {STATES.map((state) => (
            <li key={state}>
              <a href={`/tasks?state=${state}`} class={sums.counts.get(state) ? '' : 'is-none'}>
                <span>
                  <Mark state={state} /> {t(state)}
                </span>
                <b data-count={state}>{sums.counts.get(state)}</b>
              </a>
            </li>
          ))}
        </ul>
        <div class="totals">
          <Bar good label={t('Nodes ready')} part={sums.ready} of={nodes.size} text={`${sums.ready} / ${nodes.size}`} />
          <Bar label={t('Processors')} part={sums.coresTaken} of={sums.cores} text={`${cores(sums.coresTaken)} / ${cores(sums.cores)}`} />
          <Bar label={t('Memory')} part={sums.memoryTaken} of={sums.memory} text={`${bytes(sums.memoryTaken)} / ${bytes(sums.memory)}`} />
        </div>
      </section>
      <Attention />
      <section aria-label={t('The cluster')}>
        <h2>{t('The cluster')}</h2>
        <ClusterMap by={sums.by} />
      </section>
    </>
  );
}

function Attention() {
  const at = version.value;
  const pairs = standbys.value;
  const all = useMemo(() => {
    const found: { key: string; text: string; why: string; to: string }[] = [];
    let lost = 0;
    for (const node of nodes.values()) {
      if (node.state === 'lost' && lost++ < SHOWN) {
        found.push({ key: `n${node.name}`, text: t('{name} is lost', { name: node.name }), why: node.heard == null ? '' : t('not heard for {span}', { span: span(node.heard) }), to: `/nodes/${encodeURIComponent(node.name)}` });
      }
    }
    if (lost > SHOWN) found.push({ key: '-', text: t('{n} more are lost', { n: lost - SHOWN }), why: '', to: '/nodes?text=lost' });
    for (const pair of pairs) {
      const late = pair.age != null && pair.interval != null && pair.age > STALE * pair.interval && pair.age > 10_000;
      if (pair.connected && !late) continue;
      const why = pair.connected ? t('the standby is {span} old', { span: span(pair.age!) }) : t('the standby on {node} is not reached', { node: pair.standby });
      found.push({ key: `s${pair.task}-${pair.standby}`, text: pair.task, why, to: '/standbys' });
    }
    let failed = 0;
    const newest = [...tasks.values()].filter((task) => task.state === 'failed').sort((a, b) => (b.ended ?? 0) - (a.ended ?? 0));
    for (const task of newest) {
      if (failed++ < SHOWN) found.push({ key: task.name, text: t('{name} has failed', { name: task.name }), why: told(task.why), to: `/tasks/${encodeURIComponent(task.name)}` });
    }
    if (failed > SHOWN) found.push({ key: '+', text: t('{n} more have failed', { n: failed - SHOWN }), why: '', to: '/tasks?state=failed' });
    return found;
  }, [at, pairs, t('Overview')]);
  return (
    <section aria-label={t('Needs attention')} class="attention">
      <h2>{t('Needs attention')}</h2>
      {all.length ? (
        <ul>
          {all.map(({ key, text, why, to }) => (
            <li key={key}>
              <a href={to}>{text}</a> <span class="quiet">{why}</span>
            </li>
          ))}
        </ul>
      ) : (
        <p class="quiet">{t('Nothing.')}</p>
      )}
    </section>
  );
}
