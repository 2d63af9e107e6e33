// The snapshots of a task that the controller keeps: taken, looked at, carried away, gone on from.
import { useCallback, useEffect, useMemo, useState } from 'preact/hooks';
import { address, ask, Problem, type Snapshot, type Task } from './api';
import { useDescription } from './description';
import { bytes, span, time } from './format';
import { t, told } from './i18n';
import { another } from './marks';
import { go } from './router';
import { check } from './schema';
import { isOver } from './select';
import { may, tasks } from './store';
import { Dialog, say, Sure } from './ui';

const LOOK_MS = 5000;

export interface Album {
  all: Snapshot[];
  wrong: string;
  look: () => Promise<void>;
}

/** Those of a task, asked for again while there can come more: nothing tells of them. */
export function useSnapshots(task: Task | undefined): Album {
  const [all, setAll] = useState<Snapshot[]>([]);
  const [wrong, setWrong] = useState('');
  const name = task?.name;
  const alive = !!task && !isOver(task.state);
  const look = useCallback(async () => {
    if (!name) return;
    try {
      setAll(await ask('get', '/v1/tasks/{name}/snapshots', { name }));
      setWrong('');
    } catch (e) {
      setWrong((e as Error).message);
    }
  }, [name]);
  useEffect(() => {
    void look();
    if (!alive) return;
    const timer = setInterval(() => document.hidden || void look(), LOOK_MS);
    return () => clearInterval(timer);
  }, [look, alive, task?.attempt]);
  return { all, wrong, look };
}

export async function capture(name: string): Promise<void> {
  const made = await ask('post', '/v1/tasks/{name}/snapshots', { name });
  say(t('Snapshot {id} of {name} is kept: {bytes}.', { id: made.id, name, bytes: bytes(made.bytes) }));
}

export function Snapshots({ task, album, now }: { task: Task; album: Album; now: number }) {
  const [of, setOf] = useState<{ snapshot: Snapshot; to: 'resume' | 'remove' } | undefined>();
  const close = () => setOf(undefined);
  const operates = may('operate');
  return (
    <section class="snapshots">
      <h2>{t('Snapshots')}</h2>
      {album.wrong && <p class="wrong">{told(album.wrong)}</p>}
      {!album.all.length ? (
        <p class="quiet">{t('None.')}</p>
      ) : (
        <div class="scroll" tabIndex={0} role="region" aria-label={t('Snapshots')}>
          <table class="stack">
            <thead>
              <tr>
                <th scope="col" class="number">{t('Number')}</th>
                <th scope="col">{t('When')}</th>
                <th scope="col">{t('Node')}</th>
                <th scope="col" class="number">{t('Size')}</th>
                <th scope="col" class="number">{t('Work done')}</th>
                <th scope="col">{t('Taken')}</th>
                {operates && <td />}
              </tr>
            </thead>
            <tbody>
              {album.all.map((snapshot) => {
                const called = t('snapshot {id}', { id: snapshot.id });
                return (
                  <tr key={snapshot.id} data-snapshot={snapshot.id}>
                    <td class="number" data-label={t('Number')}>{snapshot.id}</td>
                    <td data-label={t('When')}>
                      <time dateTime={new Date(snapshot.at).toISOString()}>{time(snapshot.at, now)}</time>
                    </td>
                    <td data-label={t('Node')}>{snapshot.node}</td>
                    <td class="number" data-label={t('Size')}>{bytes(snapshot.bytes)}</td>
                    <td class="number" data-label={t('Work done')}>{span(snapshot.done * 1000)}</td>
                    <td data-label={t('Taken')}>
                      {snapshot.by_hand ? t('by hand') : t('by itself')}
                      {task.snapshot === snapshot.id && <span class="tag">{t('it went on from this')}</span>}
                    </td>
                    {operates && (
                      <td class="deeds-cell">
                        <div class="deeds">
                          <a class="button" href={address('/v1/snapshots/{id}', { id: String(snapshot.id) })} download aria-label={`${t('Download')}: ${called}`}>
                            {t('Download')}
                          </a>
                          <button onClick={() => setOf({ snapshot, to: 'resume' })} aria-label={`${t('Resume as…')}: ${called}`}>
                            {t('Resume as…')}
                          </button>
                          <button onClick={() => setOf({ snapshot, to: 'remove' })} aria-label={`${t('Remove…')}: ${called}`}>
                            {t('Remove…')}
                          </button>
                        </div>
                      </td>
                    )}
                  </tr>
                );
              })}
            </tbody>
          </table>
        </div>
      )}
      {of?.to === 'resume' && <Resume snapshot={of.snapshot} close={close} now={now} />}
      {of?.to === 'remove' && (
        <Sure
          title={t('Remove snapshot {id}?', { id: of.snapshot.id })}
          text={t('Nothing can go on from it any more.')}
          word={t('Remove')}
          close={close}
          act={async () => {
            await ask('delete', '/v1/snapshots/{id}', { id: String(of.snapshot.id) });
            await album.look();
          }}
        />
      )}
    </section>
  );
}

function Resume({ snapshot, close, now }: { snapshot: Snapshot; close: () => void; now: number }) {
  const schemas = useDescription();
  const [name, setName] = useState(() => another(snapshot.task, (name) => tasks.has(name)));
  const [said, setSaid] = useState('');
  const [busy, setBusy] = useState(false);
  const typed = useMemo(() => check({ name }, { $ref: 'ResumeRequest' }, schemas)[0]?.message, [name, schemas]);
  const wrong = said || typed || (tasks.has(name) ? t('there is a task of this name') : '');
  const resume = async (e: Event) => {
    e.preventDefault();
    if (wrong || busy) return;
    setBusy(true);
    try {
      await ask('post', '/v1/snapshots/{id}/resume', { id: String(snapshot.id) }, { name });
      say(t('{name} goes on from snapshot {id}.', { name, id: snapshot.id }));
      close();
      go(`/tasks/${encodeURIComponent(name)}`);
    } catch (e) {
      setSaid((e instanceof Problem && e.errors[0]?.message) || (e as Error).message);
      setBusy(false);
    }
  };
  return (
    <Dialog title={t('Resume snapshot {id}', { id: snapshot.id })} close={close}>
      <form class="form" onSubmit={(e) => void resume(e)}>
        <p class="quiet">{t('A new task, of the same order, goes on from {time}: {name} is as it was.', { time: time(snapshot.at, now), name: snapshot.task })}</p>
        <label>
          {t('Name')}
          <input
            value={name}
            spellcheck={false}
            aria-invalid={wrong ? true : undefined}
            aria-describedby="wrong-resume"
            onInput={(e) => {
              setName(e.currentTarget.value);
              setSaid('');
            }}
          />
          {wrong && (
            <span class="wrong" id="wrong-resume" role="alert">
              {told(wrong)}
            </span>
          )}
        </label>
        <p class="actions">
          <button class="main" disabled={busy || !!wrong} aria-busy={busy}>
            {t('Resume')}
          </button>
        </p>
      </form>
    </Dialog>
  );
}
