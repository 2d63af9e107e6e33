// The page: what it begins with, its frame, and which part of it is shown.
import { render } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { Access } from './access';
import { language, learn, speak, t } from './i18n';
import { later } from './later';
import { Nodes, OneNode } from './nodes';
import { Overview } from './overview';
import { go, here, parts } from './router';
import { SignIn } from './signin';
import { Standbys } from './standbys';
import { begin, check, connection, loaded, may, signIn, signOut, who } from './store';
import { Tasks } from './tasks';
import { theme, type Theme } from './theme';
import { complain, Title, Toasts } from './ui';

const OneTask = later(() => import('./task').then((part) => part.OneTask));
const Submit = later(() => import('./submit').then((part) => part.Submit));

function Page() {
  const { path, query } = parts(here.value);
  const [first, second] = path;
  switch (first) {
    case undefined:
      return <Overview />;
    case 'tasks':
      return second ? <OneTask key={second} name={second} /> : <Tasks query={query} />;
    case 'submit':
      return <Submit />;
    case 'nodes':
      return second ? <OneNode key={second} name={second} /> : <Nodes query={query} />;
    case 'standbys':
      return <Standbys />;
    case 'access':
      return <Access />;
    default:
      return <Title text={t('There is nothing here')} />;
  }
}

function Frame() {
  const first = parts(here.value).path[0] ?? '';
  const link = (to: string, text: string) => (
    <a href={`/${to}`} aria-current={first === to ? 'page' : undefined}>
      {text}
    </a>
  );
  useEffect(() => {
    const onKey = (e: KeyboardEvent) => {
      const target = e.target as HTMLElement;
      if (e.key !== '/' || e.ctrlKey || e.metaKey || /^(input|textarea|select)$/i.test(target.tagName)) return;
      const search = document.querySelector<HTMLInputElement>('input[type=search]');
      e.preventDefault();
      if (search) search.focus();
      else go('/tasks');
    };
    addEventListener('keydown', onKey);
    return () => removeEventListener('keydown', onKey);
  }, []);
  const live = connection.value;
  return (
    <>
      <a class="skip" href="#main">
        {t('Skip to the content')}
      </a>
      <header class="top">
        <a class="brand" href="/" aria-label="Wayfare">
          <svg viewBox="0 0 32 32" aria-hidden="true">
            <path d="M7 21h7c4 0 3-10 7-10h3" />
            <circle cx="7" cy="21" r="4" />
            <circle cx="25" cy="11" r="4" class="far" />
          </svg>
          <span>Wayfare</span>
        </a>
        <nav aria-label={t('Pages')}>
          {link('', t('Overview'))}
          {link('tasks', t('Tasks'))}
          {may('operate') && link('submit', t('Submit'))}
          {link('nodes', t('Nodes'))}
          {link('standbys', t('Standbys'))}
          {may('admin') && link('access', t('Access'))}
        </nav>
        <div class="me">
          <span class={`live is-${live}`} role="status">
            {live === 'live' ? t('live') : live === 'lost' ? t('connection lost') : t('connecting')}
          </span>
          <Choices />
          <span class="who" title={t('Signed in as {name}', { name: who.value!.name })}>
            {who.value!.name} · {t(who.value!.role)}
          </span>
          <button class="plain" onClick={() => signOut().catch(complain)}>
            {t('Sign out')}
          </button>
        </div>
      </header>
      <main id="main" tabIndex={-1}>
        {loaded.value && <Page />}
      </main>
    </>
  );
}

/** From when on fonts are loaded that nobody waits for, milliseconds after something is drawn. */
const LATER = 100;

export function Choices() {
  // The one word in the other script takes a font of its own, and tens of milliseconds: not before all else is seen.
  const [isLater, setLater] = useState(language.value === 'zh');
  useEffect(() => {
    const timer = setTimeout(() => setLater(true), LATER);
    return () => clearTimeout(timer);
  }, []);
  const other = language.value === 'zh' ? 'English' : '中文';
  return (
    <>
      <label class="choice">
        <span class="hidden">{t('Colours')}</span>
        <select value={theme.value} onChange={(e) => (theme.value = e.currentTarget.value as Theme)}>
          <option value="auto">{t('system')}</option>
          <option value="light">{t('light')}</option>
          <option value="dark">{t('dark')}</option>
        </select>
      </label>
      <button class="plain language" lang={language.value === 'zh' ? 'en' : 'zh-CN'} onClick={() => speak(language.value === 'zh' ? 'en' : 'zh').catch(complain)}>
        {isLater && other}
      </button>
    </>
  );
}

function Whole() {
  const now = who.value;
  return (
    <>
      {now === undefined ? <p class="boot">Wayfare</p> : now ? <Frame /> : <SignIn />}
      <Toasts />
    </>
  );
}

/** `wayfare up` shows an address that ends in `#token=...`: it signs in, and is taken out of the address. */
async function enter() {
  const token = /^#token=([\w.-]+)$/.exec(location.hash)?.[1];
  if (token) {
    history.replaceState(null, '', location.pathname + location.search);
    await signIn(token).catch(complain);
    if (who.value) return;
  }
  // All that will be needed is asked for together; nobody who is not signed in gets any of it.
  begin();
  await check();
}

async function enterAtLast() {
  try {
    await enter();
  } catch {
    setTimeout(() => void enterAtLast(), 1000);
  }
}

// What is to be shown is asked for before anything is drawn.
void enterAtLast();
// English, if the other does not come.
void learn(language.value)
  .catch(complain)
  .then(() => {
    const app = document.getElementById('app')!;
    app.textContent = '';
    render(<Whole />, app);
  });
