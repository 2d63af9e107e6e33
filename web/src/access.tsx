// Tokens: who may ask the controller, and for what.
import { useEffect, useState } from 'preact/hooks';
import { ask, type Role, type Token } from './api';
import { time } from './format';
import { t } from './i18n';
import { may, who } from './store';
import { Act, complain, Copied, Title } from './ui';

export function Access() {
  const [all, setAll] = useState<Token[]>([]);
  const [name, setName] = useState('');
  const [role, setRole] = useState<Role>('view');
  const [days, setDays] = useState('');
  const [made, setMade] = useState('');
  const look = () => ask('get', '/v1/tokens', {}).then(setAll, complain);
  useEffect(() => void look(), []);
  if (!may('admin')) return <Title text={t('Access')}><span class="quiet">{t('This is for admins.')}</span></Title>;
  const good = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,47}$/.test(name) && !all.some((token) => token.name === name);
  const make = async () => {
    const ttl = days ? Math.round(Number(days) * 86_400) : null;
    const token = await ask('post', '/v1/tokens', {}, { name, role, ttl });
    setMade(token.token);
    setName('');
    await look();
  };
  return (
    <>
      <Title text={t('Access')} />
      <table>
        <thead>
          <tr>
            <th scope="col">{t('Name')}</th>
            <th scope="col">{t('Role')}</th>
            <th scope="col">{t('Holds until')}</th>
            <td />
          </tr>
        </thead>
        <tbody>
          {all.map((token) => (
            <tr key={token.name}>
              <td>{token.name}</td>
              <td>{t(token.role)}</td>
              <td>{token.expires != null ? time(token.expires) : t('without end')}</td>
              <td>
                <Act disabled={token.name === who.value?.name} act={() => ask('delete', '/v1/tokens/{name}', { name: token.name }).then(look)} done={t('{name} is ended.', { name: token.name })}>
                  {t('End')}
                </Act>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      <h2>{t('New token')}</h2>
      <div class="fields form">
        <label>
          {t('Name')}
          <input value={name} maxLength={48} spellcheck={false} onInput={(e) => setName(e.currentTarget.value)} />
        </label>
        <label>
          {t('Role')}
          <select value={role} onChange={(e) => setRole(e.currentTarget.value as Role)}>
            <option value="view">{t('view')}</option>
            <option value="operate">{t('operate')}</option>
            <option value="admin">{t('admin')}</option>
          </select>
        </label>
        <label>
          {t('Days that it holds')}
          <input type="number" min={1} max={11574} value={days} placeholder={t('without end')} onInput={(e) => setDays(e.currentTarget.value)} />
        </label>
      </div>
      <p class="actions">
        <Act class="main" disabled={!good} act={make}>
          {t('Make it')}
        </Act>
      </p>
      {made && (
        <>
          <p>{t('It is shown this once:')}</p>
          <Copied text={made} />
        </>
      )}
    </>
  );
}
