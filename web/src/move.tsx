// Where a task may move to, with what is known of each node that tells how a move there will go.
import { useEffect, useState } from 'preact/hooks';
import { ask, type Moment, type Task } from './api';
import { bytes, cores, span } from './format';
import { t, told } from './i18n';
import { natural } from './select';
import { taken } from './changes';
import { nodes, tasks, version } from './store';
import { Act, Dialog, NodeState, say } from './ui';

export async function move(name: string, to: string) {
  const moved = await ask('post', '/v1/tasks/{name}/move', { name }, { to });
  say(t('{name} is on {node}: it stood still for {span}, and {bytes} were sent.', { name, node: moved.to, span: span(moved.downtime), bytes: bytes(moved.bytes) }));
}

export function MoveTo({ task, close }: { task: Task; close: () => void }) {
  void version.value;
  const [history, setHistory] = useState<Moment[]>([]);
  useEffect(() => {
    ask('get', '/v1/tasks/{name}/history', { name: task.name }).then(setHistory, () => {});
  }, [task.name]);
  const by = taken(tasks.values());
  const all = [...nodes.values()].filter((node) => node.name !== task.node).sort((a, b) => natural(a.name, b.name));
  const last = history.filter((moment) => /stood still/.test(moment.why)).pop();
  return (
    <Dialog title={t('Move {name}', { name: task.name })} close={close}>
      <p class="quiet">
        {t('It runs on while its memory goes over, and stands still for the rest: the controller asks for 100 ms at most.')}
        {last && ` ${t('Its last move: {why}', { why: told(last.why) })}`}
      </p>
      <table class="menu">
        <thead>
          <tr>
            <th scope="col">{t('Node')}</th>
            <th scope="col">{t('State')}</th>
            <th scope="col" class="number">{t('Processors free')}</th>
            <th scope="col" class="number">{t('Memory free')}</th>
            <th scope="col" class="number">{t('Round trip')}</th>
            <td />
          </tr>
        </thead>
        <tbody>
          {all.map((node) => {
            const [c, m] = [node.cores - (by.get(node.name)?.cores ?? 0), node.memory - (by.get(node.name)?.memory ?? 0)];
            const why = node.state === 'lost' ? t('it is lost') : c + 1e-9 < task.cores ? t('too few processors are free') : m < task.memory ? t('too little memory is free') : '';
            return (
              <tr key={node.name}>
                <td>
                  {node.name} <span class="quiet">{node.isa}{node.bare && ` · ${t('bare metal')}`}</span>
                </td>
                <td>
                  <NodeState state={node.state} />
                </td>
                <td class="number">{cores(Math.max(0, c))}</td>
                <td class="number">{bytes(Math.max(0, m))}</td>
                <td class="number">{node.rtt != null ? span(node.rtt) : '—'}</td>
                <td>
                  <Act act={() => move(task.name, node.name).then(close)} disabled={node.state === 'lost'} title={why || undefined}>
                    {t('Move')}
                  </Act>
                  {why && <span class="quiet"> {why}</span>}
                </td>
              </tr>
            );
          })}
        </tbody>
      </table>
      {!all.length && <p>{t('There is no other node.')}</p>}
    </Dialog>
  );
}
