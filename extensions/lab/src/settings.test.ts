import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

import { DefaultSchemaValidator, type ISettingRegistry } from '@jupyterlab/settingregistry';
import { describe, expect, it, vi } from 'vitest';

import { SettingsValidator, defaultsOf } from './defaults';

// Lumino looks at the browser while it is imported.
vi.hoisted(() => {
  vi.stubGlobal('navigator', { platform: '', userAgent: '' });
  vi.stubGlobal('document', { createElement: () => ({}) });
  vi.stubGlobal('Element', class { matches = (): boolean => false; });
});

const JUPYTER = '../../.envs/user/share/jupyter';
const FOLDERS = ['', '/@labwright/lab', '/@jupyter-widgets/jupyterlab-manager'].map(name =>
  name ? `labextensions${name}/schemas` : 'lab/schemas'
);

/** The schemas of the Lab that this extension runs in, by name. */
const schemas = FOLDERS.flatMap(folder =>
  readdirSync(join(JUPYTER, folder), { recursive: true, encoding: 'utf8' })
    .filter(name => name.endsWith('.json'))
    .map(name => [name, JSON.parse(readFileSync(join(JUPYTER, folder, name), 'utf8')) as ISettingRegistry.ISchema] as const)
).filter(([, schema]) => schema.type === 'object');

function plugin(name: string, schema: ISettingRegistry.ISchema, raw: string): ISettingRegistry.IPlugin {
  return { id: name, schema: structuredClone(schema), raw, version: '', data: { composite: {}, user: {} } };
}

/** A validator that may not be asked for more. */
const never = (): never => {
  throw new Error('Lab’s own validator was asked.');
};

describe('settings that nobody has set', () => {
  it('are found for all schemas of Lab', () => {
    expect(schemas.length).toBeGreaterThan(50);
  });

  it.each(schemas)('are those that Lab finds: %s', (name, schema) => {
    const [quick, full] = [plugin(name, schema, '{}'), plugin(name, schema, '{}')];
    expect(new SettingsValidator().validateData(quick)).toBe(null);
    expect(new DefaultSchemaValidator().validateData(full)).toBe(null);
    expect(quick.data).toEqual(full.data);
  });

  it('are found without compiling', () => {
    expect(schemas.filter(([, schema]) => defaultsOf(schema) === undefined).map(([name]) => name)).toEqual([]);
  });

  it('are found without compiling for menus, which plugins fill while Lab starts', () => {
    const [name, schema] = schemas.find(([each]) => each.endsWith('mainmenu-extension/plugin.json')) ?? ['', {}];
    const menus = [{ id: 'jp-a', items: [{ command: 'b' }, { submenu: { id: 'jp-c', items: [{ command: 'd' }] } }] }];
    const filled = structuredClone(schema) as ISettingRegistry.ISchema;
    Object.assign(filled.properties?.menus ?? {}, { default: menus });
    const [quick, full] = [plugin(name, filled, '{}'), plugin(name, filled, '{}')];
    expect(new SettingsValidator(never).validateData(quick)).toBe(null);
    expect(new DefaultSchemaValidator().validateData(full)).toBe(null);
    expect(quick.data).toEqual(full.data);
    expect(JSON.stringify(quick.data.composite)).toContain('"d","disabled":false');
  });

  it.each(['anyOf', 'oneOf'])('are left to Lab where a default depends on the data: %s', keyword => {
    const either = { [keyword]: [{ properties: { b: { default: 1 } } }, { type: 'string' }] };
    const schema = { type: 'object', properties: { a: { default: {}, ...either } } } as unknown as ISettingRegistry.ISchema;
    const [quick, full] = [plugin('either', schema, '{}'), plugin('either', schema, '{}')];
    expect(defaultsOf(schema)).toBe(undefined);
    new SettingsValidator().validateData(quick);
    new DefaultSchemaValidator().validateData(full);
    expect(quick.data).toEqual(full.data);
  });

  it('are new for each who asks', () => {
    const schema = { type: 'object', properties: { a: { type: 'array', default: [] } } } as ISettingRegistry.ISchema;
    expect(defaultsOf(schema)?.a).not.toBe(defaultsOf(schema)?.a);
  });
});

describe('settings that somebody has set', () => {
  const schema = {
    type: 'object',
    properties: { size: { type: 'number', default: 1 }, name: { type: 'string', default: 'a' } }
  } as ISettingRegistry.ISchema;

  it('are validated, and the rest is filled in', () => {
    const mine = plugin('mine', schema, '{ "size": 3 } // by hand');
    expect(new SettingsValidator().validateData(mine)).toBe(null);
    expect(mine.data).toEqual({ composite: { size: 3, name: 'a' }, user: { size: 3 } });
    expect(new SettingsValidator().validateData(plugin('mine', schema, '{ "size": "big" }'))).toHaveLength(1);
    expect(new SettingsValidator().validateData(plugin('mine', schema, '{ "size": '))).toHaveLength(1);
  });

  it('are not looked at where there are none', () => {
    expect(new SettingsValidator(never).validateData(plugin('mine', schema, '{}'))).toBe(null);
  });
});
