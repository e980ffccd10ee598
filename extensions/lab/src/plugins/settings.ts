import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { PageConfig } from '@jupyterlab/coreutils';
import { ISettingConnector, ISettingRegistry, SettingRegistry } from '@jupyterlab/settingregistry';

import { SettingsValidator } from '../defaults';

/**
 * Lab's registry of settings, with a validator that takes less time (see ../defaults). Lab's own plugin, which has no
 * option for it, is switched off in package.json.
 */
export const settings: JupyterFrontEndPlugin<ISettingRegistry> = {
  id: '@labwright/lab:settings',
  description: 'Provides the registry of settings.',
  autoStart: true,
  provides: ISettingRegistry,
  requires: [ISettingConnector],
  activate: async (app: JupyterFrontEnd, connector: ISettingConnector): Promise<ISettingRegistry> => {
    const { values } = await connector.list('active');
    const plugins = values.filter(plugin => app.hasPlugin(plugin.id));
    const registry = new SettingRegistry({ connector, plugins, validator: new SettingsValidator() });
    void app.restored.then(() => loadTheRest(app, connector, registry));
    return registry;
  }
};

/** The settings of plugins that have not asked for theirs yet: the settings editor shows them too. */
async function loadTheRest(
  app: JupyterFrontEnd,
  connector: ISettingConnector,
  registry: ISettingRegistry
): Promise<void> {
  const { ids } = await connector.list('ids');
  for (const id of ids) {
    if (app.hasPlugin(id) && !PageConfig.Extension.isDisabled(id) && !(id in registry.plugins)) {
      await registry.load(id).catch((reason: unknown) => {
        console.warn(`The settings of ${id} could not be loaded.`, reason);
      });
    }
  }
}
