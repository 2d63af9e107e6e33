// What a task uses, over time. To know how fast it writes to its memory its node watches that for a quarter of a second: it is asked
// every two seconds, and only while somebody looks.
import { useEffect, useState } from 'preact/hooks';
import { ask, type Task } from './api';
import { Chart, POWERS } from './chart';
import { bytes, rate, span } from './format';
import { t } from './i18n';
import { nodes, standbys } from './store';

const LOOK_MS = 2000;
const KEPT = 300;
/** A chart of one point would have no width. */
const SHOWN_S = 60;

type Key = 'busy' | 'memory' | 'dirty' | 'age' | 'interval' | 'link' | 'delay';
type Sample = { at: number } & Record<Key, number | null>;
const NOTHING: Record<Key, null> = { busy: null, memory: null, dirty: null, age: null, interval: null, link: null, delay: null };

/** Boards know how long their tasks have run, and no more: how busy one is comes of two looks. */
function ofBoard() {
  let last: { ran: number; at: number } | undefined;
  return async (node: string, name: string) => {
    const on = (await ask('get', '/v1/nodes/{name}/tasks', { name: node })).find((one) => one.name === name);
    if (!on) return undefined;
    const at = Date.now();
    const busy = last && on.ran >= last.ran ? Math.min(1, (on.ran - last.ran) / (at - last.at)) : null;
    last = { ran: on.ran, at };
    return { busy, memory: on.memory, dirty: null };
  };
}

export function Figures({ task }: { task: Task }) {
  const [samples, setSamples] = useState<Sample[]>([]);
  const alive = task.state === 'running' || task.state === 'moving';
  const { name, node } = task;
  useEffect(() => {
    if (!alive || !node) return;
    let ended = false;
    let busy = false;
    const board = nodes.get(node)?.bare ? ofBoard() : undefined;
    const look = async () => {
      // One that is slow to answer is not asked twice.
      if (document.hidden || busy) return;
      busy = true;
      const used = await (board ? board(node, name) : ask('get', '/v1/tasks/{name}/usage', { name })).catch(() => undefined);
      busy = false;
      if (!used || ended) return;
      const pair = standbys.value.find((pair) => pair.task === name);
      const of = { age: pair?.age ?? null, interval: pair?.interval ?? null, link: pair?.bandwidth ?? null, delay: pair?.delay ?? null };
      const sample = { at: Date.now() / 1000, busy: used.busy ?? null, memory: used.memory, dirty: used.dirty ?? null, ...of };
      setSamples((was) => (was.length ? [...was.slice(1 - KEPT), sample] : [{ ...NOTHING, at: sample.at - SHOWN_S }, sample]));
    };
    void look();
    const timer = setInterval(look, LOOK_MS);
    return () => {
      ended = true;
      clearInterval(timer);
    };
  }, [alive, node, name]);
  const times = samples.map((sample) => sample.at);
  const isGuarded = samples.some((sample) => sample.interval !== null || sample.age !== null);
  const of = (key: Key) => samples.map((sample) => sample[key]);
  const percent = (n: number) => `${Math.round(n * 100)} %`;
  return (
    <section>
      <h2>{t('What it uses')}</h2>
      {!samples.length ? (
        <p class="quiet">{alive ? t('Its node is being asked.') : t('It does not run.')}</p>
      ) : (
        <>
          <Chart title={t('Processor')} times={times} series={[{ label: t('busy'), colour: '--blue', values: of('busy') }]} show={percent} most={1} />
          <Chart title={t('Memory')} times={times} series={[{ label: t('memory'), colour: '--green', values: of('memory') }]} show={bytes} steps={POWERS} />
          <Chart title={t('Memory written anew')} times={times} series={[{ label: t('written'), colour: '--amber', values: of('dirty') }]} show={rate} />
          {isGuarded && (
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
              <Chart title={t('Link to the standby')} times={times} series={[{ label: t('measured'), colour: '--violet', values: of('link') }]} show={rate} />
              <Chart title={t('Delay of that link')} times={times} series={[{ label: t('measured'), colour: '--violet', values: of('delay') }]} show={span} />
            </>
          )}
        </>
      )}
    </section>
  );
}
