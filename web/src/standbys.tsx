// Tasks with standbys: how old those are, when they are brought up to date and why, and what would be lost now.
import { ask } from './api';
import { bytes, rate, span } from './format';
import { t, told } from './i18n';
import { may, standbys, tasks } from './store';
import { Act, Title } from './ui';

export function Standbys() {
  const all = standbys.value;
  return (
    <>
      <Title text={t('Standbys')}>
        <span class="quiet">{all.length}</span>
      </Title>
      {!all.length && <p class="quiet">{t('No task has a standby. The page of a task that runs gives it one; so does "standby": true when it is submitted.')}</p>}
      <div class="pairs">
        {all.map((pair) => (
          <article key={`${pair.task} ${pair.primary} ${pair.standby}`} class="pair-card" data-pair={pair.task}>
            <header>
              <h2>{tasks.has(pair.task) ? <a href={`/tasks/${encodeURIComponent(pair.task)}`}>{pair.task}</a> : pair.task}</h2>
              <span class={pair.connected ? 'state node-ready' : 'state node-lost'}>{pair.connected ? t('connected') : t('not reached')}</span>
            </header>
            <p class="route">
              <b>{pair.primary}</b> → <b>{pair.standby}</b>
              {pair.home !== pair.primary && <span class="tag">{t('home: {node}', { node: pair.home })}</span>}
            </p>
            <dl class="facts">
              <dt>{t('State there is')}</dt>
              <dd>{pair.age != null ? t('{span} old', { span: span(pair.age) }) : t('not complete yet')}</dd>
              <dt>{t('Lost if it failed now')}</dt>
              <dd>{t('{span} of work', { span: span(pair.loss) })}</dd>
              <dt>{t('Interval')}</dt>
              <dd>{pair.interval != null ? span(pair.interval) : '—'}</dd>
              <dt>{t('Why')}</dt>
              <dd>{told(pair.why) || '—'}</dd>
              <dt>{t('Last sync')}</dt>
              <dd>
                {bytes(pair.bytes)}
                {pair.pause != null && `, ${t('stood still for {span}', { span: span(pair.pause) })}`} <span class="quiet">({t('{n} so far', { n: pair.syncs })})</span>
              </dd>
              <dt>{t('Link')}</dt>
              <dd>
                {pair.bandwidth != null ? rate(pair.bandwidth) : '—'}
                {pair.delay != null && `, ${span(pair.delay)}`}
              </dd>
            </dl>
            {may('operate') && (
              <p class="actions">
                <Act disabled={!pair.connected} act={() => ask('post', '/v1/standbys/{task}/failover', { task: pair.task })} done={t('It goes on at its standby.')}>
                  {t('Fail over')}
                </Act>
                <Act disabled={pair.home === pair.primary} act={() => ask('post', '/v1/standbys/{task}/failback', { task: pair.task })} done={t('It goes home.')}>
                  {t('Fail back')}
                </Act>
                <Act act={() => ask('delete', '/v1/standbys/{task}', { task: pair.task })} done={t('It has no standby any more.')}>
                  {t('Take its standby away')}
                </Act>
              </p>
            )}
          </article>
        ))}
      </div>
    </>
  );
}
