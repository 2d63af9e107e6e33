// Where a task may move to: what each node has free, how a move there would go, and then how it went.
import { useEffect, useState } from 'preact/hooks';
import { ask, type Destination, type Moved, type Node, type Task } from './api';
import { bytes, cores, span } from './format';
import { t, told } from './i18n';
import { natural } from './select';
import { taken } from './changes';
import { nodes, tasks, version } from './store';
import { Act, Dialog, NodeState, say } from './ui';

export function MoveTo({ task, close }: { task: Task; close: () => void }) {
  void version.value;
  const { name } = task;
  const [known, setKnown] = useState<Map<string, Destination> | undefined>();
  const [wrong, setWrong] = useState('');
  // Its node changes a little before the answer comes, and the list is not to jump then.
  const [from] = useState(task.node);
  const [moved, setMoved] = useState<{ moved: Moved; was?: Destination } | undefined>();
  // Where it is when it is asked for: the task is watched for a while, and nothing of that holds for another node.
  useEffect(() => {
    let ended = false;
    setKnown(undefined);
    ask('get', '/v1/tasks/{name}/destinations', { name }).then(
      (all) => ended || setKnown(new Map(all.map((one) => [one.node, one]))),
      (e: Error) => ended || (setKnown(new Map()), setWrong(e.message)),
    );
    return () => void (ended = true);
  }, [name]);
  const move = async (to: string) => {
    const was = known?.get(to);
    setWrong('');
    try {
      const moved = await ask('post', '/v1/tasks/{name}/move', { name }, { to });
      setMoved({ moved, was });
      say(t('{name} is on {node}: it stood still for {span}, and {bytes} were sent.', { name, node: moved.to, span: span(moved.downtime), bytes: bytes(moved.bytes) }));
    } catch (e) {
      setWrong((e as Error).message);
    }
  };
  const by = taken(tasks.values());
  const all = [...nodes.values()].filter((node) => node.name !== from).sort((a, b) => natural(a.name, b.name));
  return (
    <Dialog title={t('Move {name}', { name })} close={close}>
      {moved ? (
        <How {...moved} close={close} />
      ) : (
        <>
          <p class="quiet">{t('It runs on while its memory goes over, and stands still for the rest: the controller asks for 100 ms at most.')}</p>
          <table class="menu stack" aria-busy={!known}>
            <thead>
              <tr>
                <th scope="col">{t('Node')}</th>
                <th scope="col" class="number">{t('Would take')}</th>
                <th scope="col" class="number">{t('Would stand still')}</th>
                <th scope="col" class="number">{t('Would gain')}</th>
                <td />
              </tr>
            </thead>
            <tbody>
              {all.map((node) => (
                <Line key={node.name} node={node} on={by.get(node.name)} is={known?.get(node.name)} isKnown={!!known} stays={task.state !== 'running'} move={move} />
              ))}
            </tbody>
          </table>
          {!all.length && <p>{t('There is no other node.')}</p>}
        </>
      )}
      {wrong && <p class="wrong" role="alert">{told(wrong)}</p>}
    </Dialog>
  );
}

/** Seconds by which it would end sooner, or later; below a tenth nobody knows. */
function gained(gain: number): string {
  if (Math.abs(gain) < 0.1) return t('nothing');
  return gain > 0 ? span(gain * 1000) : `−${span(-gain * 1000)}`;
}

interface LineProps {
  node: Node;
  on?: { cores: number; memory: number };
  is?: Destination;
  isKnown: boolean;
  stays: boolean;
  move: (to: string) => Promise<void>;
}

function Line({ node, on, is, isKnown, stays, move }: LineProps) {
  const free = [cores(Math.max(0, node.cores - (on?.cores ?? 0))), bytes(Math.max(0, node.memory - (on?.memory ?? 0)))] as const;
  const figure = (n: number | null | undefined) => (n != null ? span(n) : isKnown ? '—' : '…');
  return (
    <tr data-to={node.name}>
      <th scope="row">
        {node.name} {node.state !== 'ready' && <NodeState state={node.state} />}
        <span class="quiet">
          {node.isa}
          {node.bare && ` · ${t('bare metal')}`} · {t('{n} processors and {bytes} free', { n: free[0], bytes: free[1] })}
          {node.rtt != null && ` · ${t('round trip {span}', { span: span(node.rtt) })}`}
        </span>
      </th>
      {is?.refused ? (
        <td colSpan={3} class="quiet">
          {told(is.refused)}
        </td>
      ) : (
        <>
          <td class="number" data-figure="took" data-label={t('Would take')}>{figure(is?.took)}</td>
          <td class="number" data-figure="downtime" data-label={t('Would stand still')}>{figure(is?.downtime)}</td>
          <td class="number" data-figure="gain" data-label={t('Would gain')}>{is?.gain != null ? gained(is.gain) : figure(undefined)}</td>
        </>
      )}
      <td>
        <Act act={() => move(node.name)} disabled={stays || node.state === 'lost' || !!is?.refused} aria-label={`${t('Move')}: ${node.name}`}>
          {t('Move')}
        </Act>
      </td>
    </tr>
  );
}

/** What was thought beside what became of it. */
function How({ moved, was, close }: { moved: Moved; was?: Destination; close: () => void }) {
  const rows = [
    { what: t('Stood still'), thought: was?.downtime, real: moved.downtime },
    { what: t('Took'), thought: was?.took, real: moved.took },
  ];
  return (
    <>
      <p role="status">{t('It has come from {from} to {to}, and {bytes} were sent.', { from: moved.from, to: moved.to, bytes: bytes(moved.bytes) })}</p>
      <table class="compared" data-moved={moved.to}>
        <thead>
          <tr>
            <td />
            <th scope="col" class="number">{t('Predicted')}</th>
            <th scope="col" class="number">{t('Real')}</th>
          </tr>
        </thead>
        <tbody>
          {rows.map(({ what, thought, real }) => (
            <tr key={what}>
              <th scope="row">{what}</th>
              <td class="number">{thought != null ? span(thought) : '—'}</td>
              <td class="number">{span(real)}</td>
            </tr>
          ))}
        </tbody>
      </table>
      <p class="actions">
        <button class="main" onClick={close}>
          {t('Close')}
        </button>
      </p>
    </>
  );
}
