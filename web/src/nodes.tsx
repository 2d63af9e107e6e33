// Machines: what they have, what they do, and how others come.
import { useEffect, useState } from 'preact/hooks';
import { ask, type Node, type OnNode } from './api';
import { bytes, cores, rate, span, speed } from './format';
import { t, told } from './i18n';
import { later } from './later';
import { go } from './router';
import { Rows, slot } from './rows';
import { natural } from './select';
import { taken } from './changes';
import { may, nodes, tasks, version } from './store';
import { Act, Bar, NodeState, say, Sure, Title } from './ui';

export function Nodes({ query }: { query: URLSearchParams }) {
  void version.value;
  const [text, setText] = useState(query.get('text') ?? '');
  const [adding, setAdding] = useState(false);
  const by = taken(tasks.values());
  const all = [...nodes.values()].filter((node) => `${node.name} ${node.isa} ${node.state} ${node.labels.join(' ')}`.toLowerCase().includes(text.toLowerCase())).sort((a, b) => natural(a.name, b.name));
  return (
    <div class="full">
      <Title text={t('Nodes')}>
        <span class="quiet">{all.length}</span>
        {may('admin') && (
          <button class="main" onClick={() => setAdding(true)}>
            {t('Add nodes…')}
          </button>
        )}
      </Title>
      <div class="tools">
        <input type="search" placeholder={t('Search: name, instruction set, label')} aria-label={t('Search')} value={text} onInput={(e) => setText(e.currentTarget.value)} />
      </div>
      <Rows
        label={t('Nodes')}
        items={all}
        columns={8}
        head={
          <tr>
            <th scope="col" class="col-name">{t('Name')}</th>
            <th scope="col" class="col-state">{t('State')}</th>
            <th scope="col">{t('Machine')}</th>
            <th scope="col" class="col-meter">{t('Processors')}</th>
            <th scope="col" class="col-meter">{t('Memory')}</th>
            <th scope="col" class="number col-few">{t('Tasks')}</th>
            <th scope="col" class="number col-few">{t('Speed')}</th>
            <th scope="col" class="number col-link">{t('Link')}</th>
          </tr>
        }
        row={(node, i) => {
          const on = by.get(node.name);
          return (
            <tr key={slot(i)} data-row={node.name}>
              <td class="col-name">
                <a href={`/nodes/${encodeURIComponent(node.name)}`}>{node.name}</a>
                {node.controller && <span class="tag is-quiet">{t('controller')}</span>}
              </td>
              <td class="col-state">
                <NodeState state={node.state} />
              </td>
              <td>
                {node.isa}
                {node.bare && <span class="tag">{t('bare metal')}</span>}
                {node.labels.map((label) => (
                  <span key={label} class="tag">
                    {label}
                  </span>
                ))}
              </td>
              <td class="col-meter">
                <Bar label={t('Processors')} part={on?.cores ?? 0} of={node.cores} text={`${cores(on?.cores ?? 0)} / ${cores(node.cores)}`} />
              </td>
              <td class="col-meter">
                <Bar label={t('Memory')} part={on?.memory ?? 0} of={node.memory} text={`${bytes(on?.memory ?? 0)} / ${bytes(node.memory)}`} />
              </td>
              <td class="number">{on?.tasks.length ?? 0}</td>
              <td class="number">{node.speed != null ? speed(node.speed) : '—'}</td>
              <td class="number">{link(node) || '—'}</td>
            </tr>
          );
        }}
      />
      {adding && <Add close={() => setAdding(false)} />}
    </div>
  );
}

/** The way between it and the controller, as far as it was measured. */
const link = (node: Node) => (node.controller ? '' : [node.bandwidth != null && rate(node.bandwidth), node.rtt != null && span(node.rtt)].filter(Boolean).join(' · '));

const Add = later(() => import('./add').then((part) => part.Add));

export function OneNode({ name }: { name: string }) {
  void version.value;
  const [dialog, setDialog] = useState<'remove' | 'drain' | undefined>();
  const node = nodes.get(name);
  const close = () => setDialog(undefined);
  if (!node) return <Title text={name}><span class="quiet">{t('There is no node of this name.')}</span></Title>;
  const on = taken(tasks.values()).get(name);
  return (
    <>
      <Title text={name}>
        <NodeState state={node.state} />
      </Title>
      {may('admin') && (
        <p class="actions">
          {node.state === 'cordoned' ? (
            <Act act={() => ask('delete', '/v1/nodes/{name}/cordon', { name })} done={t('Tasks may begin there again.')}>
              {t('Uncordon')}
            </Act>
          ) : (
            <Act act={() => ask('post', '/v1/nodes/{name}/cordon', { name })} done={t('Nothing new begins there.')} disabled={node.state === 'lost'}>
              {t('Cordon')}
            </Act>
          )}
          <button disabled={node.state === 'lost'} onClick={() => setDialog('drain')}>
            {t('Drain…')}
          </button>
          <button disabled={node.state !== 'lost'} title={node.state !== 'lost' ? t('Only a node that is lost can be removed.') : undefined} onClick={() => setDialog('remove')}>
            {t('Remove…')}
          </button>
        </p>
      )}
      <dl class="facts">
        <dt>{t('Machine')}</dt>
        <dd>
          {node.isa}
          {node.bare && ` · ${t('bare metal')}`}
          {node.controller && ` · ${t('controller')}`}
        </dd>
        <dt>{t('Address')}</dt>
        <dd>
          <code>{node.address}</code>
        </dd>
        <dt>{t('Heard')}</dt>
        <dd>
          {node.heard != null ? t('{span} ago', { span: span(node.heard) }) : '—'}
          {node.rtt != null && `, ${t('round trip {span}', { span: span(node.rtt) })}`}
        </dd>
        <dt>{t('Speed')}</dt>
        <dd data-fact="speed">{node.speed != null ? speed(node.speed) : <span class="quiet">{t('not measured')}</span>}</dd>
        {!node.controller && (
          <>
            <dt>{t('Link')}</dt>
            <dd>{node.bandwidth != null ? t('{rate} to the controller', { rate: rate(node.bandwidth) }) : <span class="quiet">{t('not measured')}</span>}</dd>
          </>
        )}
        <dt>{t('Processors')}</dt>
        <dd>
          <Bar label={t('Processors')} part={on?.cores ?? 0} of={node.cores} text={`${cores(on?.cores ?? 0)} / ${cores(node.cores)}`} />
        </dd>
        <dt>{t('Memory')}</dt>
        <dd>
          <Bar label={t('Memory')} part={on?.memory ?? 0} of={node.memory} text={`${bytes(on?.memory ?? 0)} / ${bytes(node.memory)}`} />
          {node.free != null && <span class="quiet">{t('free by its own word: {bytes}', { bytes: bytes(node.free) })}</span>}
        </dd>
        <dt>{t('Labels')}</dt>
        <dd>
          <Labels node={node} />
        </dd>
      </dl>
      <There name={name} lost={node.state === 'lost'} />
      {dialog === 'drain' && (
        <Sure
          title={t('Drain {name}?', { name })}
          text={t('Nothing new begins there, and what runs there moves to other nodes, live, as far as these have room.')}
          word={t('Drain')}
          close={close}
          act={async () => {
            const moved = await ask('post', '/v1/nodes/{name}/drain', { name });
            say(moved.length ? t('Moved: {list}', { list: moved.map((one) => one.replace(' to ', ' → ')).join(', ') }) : t('Nothing was to be moved, or nothing could be.'));
          }}
        />
      )}
      {dialog === 'remove' && (
        <Sure
          title={t('Remove {name}?', { name })}
          text={t('Its certificate is revoked: it comes back only with a new invitation.')}
          word={t('Remove')}
          close={close}
          act={async () => {
            await ask('delete', '/v1/nodes/{name}', { name });
            go('/nodes');
          }}
        />
      )}
    </>
  );
}

function Labels({ node }: { node: Node }) {
  const [text, setText] = useState('');
  const name = node.name;
  const change = (add: string[], remove: string[]) => ask('post', '/v1/nodes/{name}/labels', { name }, { add, remove });
  const admin = may('admin');
  return (
    <span class="labels">
      {node.labels.map((label) => (
        <span key={label} class="tag">
          {label}
          {admin && (
            <Act class="plain" aria-label={t('Take {label} away', { label })} act={() => change([], [label])}>
              ×
            </Act>
          )}
        </span>
      ))}
      {!node.labels.length && !admin && '—'}
      {admin && (
        <>
          <input class="short" aria-label={t('New label')} placeholder="zone=a" value={text} maxLength={64} onInput={(e) => setText(e.currentTarget.value)} />
          <Act disabled={!/^\S+$/.test(text)} act={() => change([text], []).then(() => setText(''))}>
            {t('Add')}
          </Act>
        </>
      )}
    </span>
  );
}

/** What the node itself says of what is there, asked every two seconds. */
function There({ name, lost }: { name: string; lost: boolean }) {
  const [all, setAll] = useState<OnNode[] | string>([]);
  useEffect(() => {
    if (lost) return;
    const look = () => {
      if (!document.hidden) ask('get', '/v1/nodes/{name}/tasks', { name }).then(setAll, (e: Error) => setAll(e.message));
    };
    look();
    const timer = setInterval(look, 2000);
    return () => clearInterval(timer);
  }, [name, lost]);
  return (
    <section>
      <h2>{t('What is there')}</h2>
      {lost ? (
        <p class="quiet">{t('It is lost: nobody knows.')}</p>
      ) : typeof all === 'string' ? (
        <p class="wrong">{told(all)}</p>
      ) : all.length ? (
        <div class="scroll" tabIndex={0} role="region" aria-label={t('What is there')}>
          <table>
            <thead>
              <tr>
                <th scope="col">{t('Name')}</th>
                <th scope="col">{t('State')}</th>
                <th scope="col" class="number">{t('Has run')}</th>
                <th scope="col" class="number">{t('Memory')}</th>
                <th scope="col" class="number">{t('Has written')}</th>
                <th scope="col">{t('Started by')}</th>
              </tr>
            </thead>
            <tbody>
              {all.map((task) => (
                <tr key={task.name}>
                  <td>{tasks.has(task.name) ? <a href={`/tasks/${encodeURIComponent(task.name)}`}>{task.name}</a> : task.name}</td>
                  <td>{told(task.state)}</td>
                  <td class="number">{span(task.ran)}</td>
                  <td class="number">{bytes(task.memory)}</td>
                  <td class="number">{bytes(task.log)}</td>
                  <td>{task.placed ? t('the controller') : t('somebody at the node')}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      ) : (
        <p class="quiet">{t('Nothing.')}</p>
      )}
    </section>
  );
}
