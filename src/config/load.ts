/** The configuration of `dekd run`: a YAML file, variables over it, flags over both. */
import { readFileSync } from 'node:fs';
import type { Config } from './config.ts';
import type { Environment } from './environment.ts';
import { DEFAULT_CONFIG_FILE } from './paths.ts';
import { ConfigError } from './problems.ts';
import { configOf, type Flags, type LoadedConfig, type RawSource } from './resolve.ts';
import { YamlSource } from './source-map.ts';

export interface LoadOptions {
  /** Path of the file; default DEKD_CONFIG, else /etc/dekd/config.yaml where that is there. */
  readonly file?: string | undefined;
  /** Default process.env. */
  readonly env?: Environment;
  /** Flags by the dotted path of the key they set: `{ 'socket.path': './agent.sock' }`. */
  readonly flags?: Flags;
}

/** Loads what `dekd run` uses. @throws ConfigError */
export function loadConfig(options: LoadOptions = {}): LoadedConfig {
  const env = options.env ?? process.env;
  const file = options.file ?? (env.DEKD_CONFIG || undefined);
  const yamlText = readConfigFile(file ?? DEFAULT_CONFIG_FILE, file !== undefined);
  const source = new YamlSource(file ?? DEFAULT_CONFIG_FILE, yamlText ?? '');
  const { config, warnings } = configOf(readSource(source), env, options.flags ?? {}, undefined);
  return { config, warnings, file: yamlText === undefined ? undefined : source.name };
}

/** The same from a text. @throws ConfigError */
export function parseConfig(
  yamlText: string,
  { name = 'config.yaml', env = {}, flags = {} }: { name?: string; env?: Environment; flags?: Flags } = {},
): { readonly config: Config; readonly warnings: readonly string[] } {
  return configOf(readSource(new YamlSource(name, yamlText)), env, flags, undefined);
}

/** The sections of a file, which need not be a whole configuration. @throws ConfigError */
export function loadSections(file: string): RawSource {
  return readSource(new YamlSource(file, readConfigFile(file, true)!));
}

function readSource(source: YamlSource): RawSource {
  const problems = source.problems();
  if (problems.length > 0) {
    throw new ConfigError(problems);
  }
  return { raw: source.value(), locate: (path) => source.locate(path) };
}

function readConfigFile(path: string, mustExist: boolean): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOENT' && !mustExist) {
      return undefined;
    }
    throw new ConfigError([
      { path: '', source: path, message: `cannot be read (${code}); check the path and its permissions` },
    ]);
  }
}
