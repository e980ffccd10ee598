import { useEffect, useId, type ReactNode } from 'react';

import type { ProfileCard } from '../../api/models';
import { Command, type Labwright } from '../../context';
import { absolute, bytes, inZone, money, relative, took } from '../../format';
import { ErrorNote, Skeleton, useStore } from '../../ui/states';
import { isFinal, seconds } from './model';
import { PRESETS, fits, type Field, type Preset, type ScheduleModel } from './schedule-model';

interface Props {
  lw: Labwright;
  model: ScheduleModel;
  onDone: () => void;
}

/** The form behind the toolbar's Schedule button. */
export function ScheduleForm({ lw, model, onDone }: Props): JSX.Element {
  const { trans } = lw;
  const state = useStore(model);
  useEffect(() => void model.open(), [model]);
  const submit = async (): Promise<void> => {
    const done = await model.submit();
    if (done) {
      onDone();
      const { run } = done;
      await (run ? lw.commands.execute(Command.openRun, { id: run.id }) : lw.commands.execute(Command.showJobs));
    }
  };
  const { inspection } = state;
  const ready = inspection.value !== undefined && model.says && state.name.trim() !== '';
  const blocked = state.repeat && state.preview.problem !== undefined;
  return (
    <form
      className="lw-view lw-form"
      onSubmit={event => {
        event.preventDefault();
        void submit();
      }}
    >
      <div className="lw-view-head">
        <div>
          <h1>{trans.__('Schedule %1', model.notebook.path)}</h1>
          <p className="lw-faint">{trans.__('It runs on its own, whether or not you are logged in.')}</p>
        </div>
        <button type="submit" className="lw-button lw-mod-primary" disabled={!ready || blocked || state.sending}>
          {sendWords(lw, model)}
        </button>
      </div>
      {state.problem && <ErrorNote trans={trans} problem={state.problem} />}
      {inspection.problem && (
        <ErrorNote trans={trans} problem={inspection.problem} retry={() => void model.open()} />
      )}
      {inspection.value === undefined && !inspection.problem && <Skeleton trans={trans} rows={6} />}
      {inspection.value !== undefined && (
        <>
          <Labelled label={trans.__('Name')} help={[existingHelp(lw, model), lastTime(lw, model)].filter(Boolean).join(' ')}>
            {(id, described) => (
              <input
                id={id}
                aria-describedby={described}
                className="lw-input"
                required
                maxLength={128}
                value={state.name}
                onChange={event => void model.rename(event.target.value)}
              />
            )}
          </Labelled>
          <Parameters {...{ lw, model }} />
          <Profiles {...{ lw, model }} />
          <When {...{ lw, model }} />
        </>
      )}
    </form>
  );
}

/** What the button says: what sending does. */
function sendWords({ trans }: Labwright, { state, existing, says }: ScheduleModel): string {
  if (state.repeat) {
    return existing ? trans.__('Change schedule') : trans.__('Schedule');
  }
  return says && !state.runNow ? trans.__('Change job') : trans.__('Run now');
}

function existingHelp({ trans }: Labwright, model: ScheduleModel): string | undefined {
  if (model.existing === undefined) {
    return undefined;
  }
  return model.state.repeat
    ? trans.__('You have a job of this name: its notebook, parameters, profile and schedule become these.')
    : trans.__('You have a job of this name: its notebook, parameters and profile become these; its schedule stays.');
}

/** What the run before took, beside the choice of a profile. */
function lastTime({ trans }: Labwright, model: ScheduleModel): string | undefined {
  const run = model.existing?.last_run;
  const lasted = run && isFinal(run) ? seconds(run, 0) : undefined;
  if (!run || lasted === undefined) {
    return undefined;
  }
  const facts = [
    took(lasted),
    money(run.cost, model.state.me.value?.currency),
    run.peak_memory_bytes === null ? undefined : trans.__('peak %1', bytes(run.peak_memory_bytes))
  ];
  return trans.__('Its last run: %1.', facts.filter(Boolean).join(' · '));
}

type Part = Omit<Props, 'onDone'>;

function Parameters({ lw, model }: Part): JSX.Element {
  const { trans } = lw;
  const { fields } = model.state;
  return (
    <fieldset>
      <legend>{trans.__('Parameters')}</legend>
      {fields.length === 0 && (
        <p className="lw-faint">
          {trans.__('The notebook declares none. Tag a cell “parameters” and assign typed defaults in it to get a form here.')}
        </p>
      )}
      <div className="lw-fields">
        {fields.map(field => (
          <ParameterField key={field.name} model={model} field={field} />
        ))}
      </div>
    </fieldset>
  );
}

function ParameterField({ model, field }: { model: ScheduleModel; field: Field }): JSX.Element {
  const value = model.state.values[field.name] ?? '';
  const error = model.state.errors[field.name];
  const change = (next: string | boolean): void => model.setValue(field.name, next);
  return (
    <Labelled label={field.title} hint={field.type === 'json' ? 'JSON' : field.type} help={field.description} error={error}>
      {(id, described) => {
        const shared = { id, 'aria-describedby': described, 'aria-invalid': error !== undefined };
        if (field.type === 'boolean') {
          return (
            <input {...shared} type="checkbox" checked={value === true} onChange={event => change(event.target.checked)} />
          );
        }
        if (field.choices) {
          return (
            <select {...shared} className="lw-input" value={String(value)} onChange={event => change(event.target.value)}>
              {field.choices.map(choice => {
                const text = typeof choice === 'string' ? choice : JSON.stringify(choice);
                return <option key={text}>{text}</option>;
              })}
            </select>
          );
        }
        const numeric = field.type === 'integer' || field.type === 'number';
        return (
          <input
            {...shared}
            className="lw-input"
            inputMode={field.type === 'integer' ? 'numeric' : numeric ? 'decimal' : undefined}
            value={String(value)}
            onChange={event => change(event.target.value)}
          />
        );
      }}
    </Labelled>
  );
}

function Profiles({ lw, model }: Part): JSX.Element {
  const { trans } = lw;
  const { me, profile } = model.state;
  return (
    <fieldset>
      <legend>{trans.__('Profile')}</legend>
      {me.problem && <ErrorNote trans={trans} problem={me.problem} retry={() => void model.open()} />}
      <div className="lw-profile-cards" role="radiogroup" aria-label={trans.__('Profile')}>
        {(me.value?.profiles ?? []).map(card => (
          <label key={card.slug} className="lw-profile" title={card.description} data-chosen={card.slug === profile}>
            <input
              type="radio"
              name="profile"
              value={card.slug}
              checked={card.slug === profile}
              disabled={!card.available}
              onChange={() => model.change({ profile: card.slug })}
            />
            <strong>{card.name}</strong>
            <span>{sizeOf(card)}</span>
            <span className="lw-price">{money(card.price_per_hour, me.value?.currency)}/h</span>
            {fits(card) && <span className="lw-reason">{fits(card)}</span>}
          </label>
        ))}
      </div>
    </fieldset>
  );
}

export function sizeOf(card: ProfileCard): string {
  const gpus = Object.entries(card.gpu).map(([kind, amount]) => `${amount} ${kind.endsWith('/gpu') ? 'GPU' : kind}`);
  return [`${card.cpu} CPU`, bytes(card.memory_bytes), ...gpus].join(' · ');
}

function When({ lw, model }: Part): JSX.Element {
  const { trans } = lw;
  const state = model.state;
  const names: Record<Preset, string> = {
    hourly: trans.__('Every hour'),
    daily: trans.__('Every day'),
    weekdays: trans.__('Monday to Friday'),
    weekly: trans.__('Every Monday'),
    monthly: trans.__('On the 1st of each month'),
    custom: trans.__('Custom (cron)')
  };
  return (
    <fieldset>
      <legend>{trans.__('When')}</legend>
      <label className="lw-check">
        <input
          type="checkbox"
          checked={state.runNow}
          onChange={event => model.change({ runNow: event.target.checked })}
        />
        {trans.__('Run now')}
      </label>
      <label className="lw-check">
        <input
          type="checkbox"
          checked={state.repeat}
          onChange={event => void model.when({ repeat: event.target.checked })}
        />
        {trans.__('Repeat on a schedule')}
      </label>
      {state.repeat && (
        <>
          <div className="lw-fields lw-indent">
            <Labelled label={trans.__('Repeat')}>
              {id => (
                <select
                  id={id}
                  className="lw-input"
                  value={state.preset}
                  onChange={event => void model.when({ preset: event.target.value as Preset })}
                >
                  {PRESETS.map(preset => (
                    <option key={preset} value={preset}>
                      {names[preset]}
                    </option>
                  ))}
                </select>
              )}
            </Labelled>
            {state.preset === 'custom' ? (
              <Labelled label={trans.__('Cron')} help={trans.__('minute hour day month weekday')}>
                {id => (
                  <input
                    id={id}
                    className="lw-input lw-code"
                    value={state.cron}
                    onChange={event => void model.when({ cron: event.target.value })}
                  />
                )}
              </Labelled>
            ) : (
              <Labelled label={state.preset === 'hourly' ? trans.__('At minute of') : trans.__('At')}>
                {id => (
                  <input
                    id={id}
                    type="time"
                    className="lw-input"
                    value={state.time}
                    onChange={event => event.target.value && void model.when({ time: event.target.value })}
                  />
                )}
              </Labelled>
            )}
            <Labelled label={trans.__('Time zone')}>
              {id => (
                <>
                  <input
                    id={id}
                    className="lw-input"
                    list={`${id}-zones`}
                    value={state.timezone}
                    onChange={event => void model.when({ timezone: event.target.value })}
                  />
                  <datalist id={`${id}-zones`}>
                    {Intl.supportedValuesOf('timeZone').map(zone => (
                      <option key={zone} value={zone} />
                    ))}
                  </datalist>
                </>
              )}
            </Labelled>
          </div>
          <Firings {...{ lw, model }} />
        </>
      )}
      {(state.repeat || model.existing) && (
        <label className="lw-check">
          <input
            type="checkbox"
            checked={model.follows}
            onChange={event => model.change({ follow: event.target.checked })}
          />
          {trans.__('Follow the notebook: each save in Lab becomes what runs next')}
        </label>
      )}
    </fieldset>
  );
}

function Firings({ lw, model }: Part): JSX.Element {
  const { trans } = lw;
  const { preview, timezone } = model.state;
  if (preview.problem) {
    return <ErrorNote trans={trans} problem={preview.problem} />;
  }
  return (
    <div className="lw-next" aria-live="polite">
      <p>{preview.value?.sentence ?? trans.__('Looking up the next firings …')}</p>
      <ol>
        {(preview.value?.next_firings ?? []).map(time => (
          <li key={time} title={absolute(time)}>
            {inZone(time, timezone)} <span className="lw-faint">{relative(time, Date.now())}</span>
          </li>
        ))}
      </ol>
    </div>
  );
}

interface LabelledProps {
  label: string;
  hint?: string;
  help?: string;
  error?: string;
  children: (id: string, described: string | undefined) => ReactNode;
}

function Labelled({ label, hint, help, error, children }: LabelledProps): JSX.Element {
  const id = useId();
  const note = error ?? help;
  return (
    <div className="lw-field">
      <label htmlFor={id}>
        {label} {hint && <span className="lw-faint">{hint}</span>}
      </label>
      {children(id, note ? `${id}-note` : undefined)}
      {note && (
        <span id={`${id}-note`} className={error ? 'lw-field-error' : 'lw-faint'}>
          {note}
        </span>
      )}
    </div>
  );
}
