import { JSONExt, type JSONObject, type JSONValue, type PartialJSONObject, type PartialJSONValue } from '@lumino/coreutils';
import { DefaultSchemaValidator, type ISchemaValidator, type ISettingRegistry } from '@jupyterlab/settingregistry';

/** Where a default counts or not as the data goes: left to the validator that Lab comes with. */
const CONDITIONAL = ['anyOf', 'not', 'if', 'dependencies', 'dependentSchemas'];
const DEPTH = 20;

/**
 * Validates what a person has set. Where nothing is set there is nothing to validate, and only the defaults are filled
 * in: to validate them Lab compiles two functions for each of its 60 schemas, a fifth of a second before anything shows.
 */
export class SettingsValidator implements ISchemaValidator {
  private _full: ISchemaValidator | undefined;

  constructor(private readonly _make: () => ISchemaValidator = () => new DefaultSchemaValidator()) {}

  validateData(plugin: ISettingRegistry.IPlugin, populate = true): ISchemaValidator.IError[] | null {
    const composite = plugin.raw.trim() === '{}' ? defaultsOf(plugin.schema) : undefined;
    if (composite === undefined) {
      this._full ??= this._make();
      return this._full.validateData(plugin, populate);
    }
    if (populate) {
      plugin.data = { composite, user: {} };
    }
    return null;
  }
}

/** The settings that a schema gives to somebody who has set nothing; undefined where that cannot be told without more. */
export function defaultsOf(schema: ISettingRegistry.ISchema): JSONObject | undefined {
  const found: JSONObject = {};
  const root = schema as unknown as PartialJSONObject;
  return schema.type === 'object' && fill(found, root, root, DEPTH) ? found : undefined;
}

function fill(
  value: JSONValue,
  schema: PartialJSONValue | undefined,
  root: PartialJSONObject,
  depth: number
): boolean {
  if (!isObject(schema)) {
    return true;
  }
  if (depth === 0) {
    return false;
  }
  if (!Array.isArray(value) && !isObject(value)) {
    return true;
  }
  const whole = wholes(schema, root);
  if (whole === undefined) {
    return false;
  }
  const below = (item: JSONValue, of: PartialJSONValue | undefined): boolean => fill(item, of, root, depth - 1);
  const filled = Array.isArray(value)
    ? value.every((item, index) => below(item, Array.isArray(schema.items) ? schema.items[index] : schema.items))
    : fillObject(value as JSONObject, schema, below);
  return filled && whole.every(each => below(value, each));
}

/** The other schemas whose defaults an object or list takes too; undefined where that depends. */
function wholes(schema: PartialJSONObject, root: PartialJSONObject): PartialJSONValue[] | undefined {
  if (CONDITIONAL.some(keyword => keyword in schema)) {
    return undefined;
  }
  const found = Array.isArray(schema.allOf) ? [...schema.allOf] : [];
  if (typeof schema.$ref === 'string') {
    found.push(resolve(schema.$ref, root) ?? null);
  }
  for (const one of Array.isArray(schema.oneOf) ? schema.oneOf : []) {
    // A submenu's items: a schema that refers to others is a function of its own, which fills in as if it stood alone.
    const target = isObject(one) && typeof one.$ref === 'string' ? resolve(one.$ref, root) : undefined;
    if (target !== undefined && JSON.stringify(target).includes('"$ref"')) {
      found.push(target);
    } else if (!isObject(one) || one.type !== 'null') {
      return undefined;
    }
  }
  return found.includes(null) ? undefined : (found as PartialJSONValue[]);
}

function fillObject(
  value: JSONObject,
  schema: PartialJSONObject,
  below: (item: JSONValue, of: PartialJSONValue | undefined) => boolean
): boolean {
  const properties = isObject(schema.properties) ? schema.properties : {};
  for (const [name, property] of Object.entries(properties)) {
    if (value[name] === undefined && isObject(property) && property.default !== undefined) {
      value[name] = JSONExt.deepCopy(property.default as JSONValue);
    }
  }
  const patterns = Object.entries(isObject(schema.patternProperties) ? schema.patternProperties : {});
  return Object.entries(value).every(([name, item]) => {
    const matching = patterns.filter(([pattern]) => new RegExp(pattern, 'u').test(name)).map(([, each]) => each);
    const own = name in properties ? [properties[name]] : [];
    const all = [...own, ...matching];
    return (all.length > 0 ? all : [schema.additionalProperties]).every(each => below(item, each));
  });
}

function resolve(reference: string, root: PartialJSONObject): PartialJSONValue | undefined {
  if (!reference.startsWith('#/')) {
    return undefined;
  }
  let found: PartialJSONValue | undefined = root;
  for (const part of reference.slice(2).split('/')) {
    found = isObject(found) ? found[part] : undefined;
  }
  return found;
}

function isObject(value: unknown): value is PartialJSONObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
