// @kubernetes/client-node, as it is: with-client-node.mjs use NAMESPACE NAME LAST | exec NAMESPACE POD COMMAND…
import * as k8s from '@kubernetes/client-node';
import { setTimeout } from 'node:timers/promises';

const [verb, namespace, name, ...rest] = process.argv.slice(2);
const next = { first: 'second', third: 'fourth' };
const config = new k8s.KubeConfig();

function api() {
  config.loadFromDefault();
  return config.makeApiClient(k8s.CoreV1Api);
}

async function write(maps, state) {
  const body = { metadata: { name }, data: { state } };
  if (state === 'first') await maps.createNamespacedConfigMap({ namespace, body });
  else await maps.replaceNamespacedConfigMap({ namespace, name, body });
}

// True once the last state was seen, false where the watch has ended.
function follow(maps, resourceVersion, last) {
  return new Promise((resolve, reject) => {
    let ended = false;
    const path = `/api/v1/namespaces/${namespace}/configmaps`;
    const seen = (kind, { metadata, data }) => {
      if (metadata?.name !== name || ended) return;
      console.log('watched', kind, data.state);
      ended = data.state === last;
      if (ended) resolve(true);
      else if (data.state in next) write(maps, next[data.state]).catch(reject);
    };
    new k8s.Watch(config).watch(path, { resourceVersion }, seen, (error) => (error ? reject(error) : resolve(false)));
  });
}

async function use(last) {
  let maps = api();
  console.log('got', (await maps.readNamespacedConfigMap({ namespace, name: 'seed' })).data.state);
  const found = await maps.listNamespacedConfigMap({ namespace });
  for (const each of found.items) console.log('listed', each.metadata.name);
  await write(maps, 'first');
  let version = found.metadata.resourceVersion;
  for (;;) {
    try {
      if (await follow(maps, version, last)) return;
    } catch (error) {
      console.error(String(error));
      // A kubeconfig with the token in it is read once; the files of in-cluster are read again by themselves.
      if ((error.statusCode ?? error.code) === 401 && process.env.KUBECONFIG) maps = api();
    }
    version = undefined;
    await setTimeout(1000);
  }
}

// The exit code of a command in pod `name`, which has this program's streams.
async function execute(command) {
  config.loadFromDefault();
  const { stdin, stdout, stderr } = process;
  const { status, details } = await new Promise((resolve, reject) => {
    new k8s.Exec(config)
      .exec(namespace, name, '', command, stdout, stderr, stdin, false, resolve)
      .then((socket) => (socket.onclose = () => reject(new Error('no exit code'))), reject);
  });
  return status === 'Success' ? 0 : Number(details.causes.find(({ reason }) => reason === 'ExitCode').message);
}

if (verb === 'exec') process.exitCode = await execute(rest);
else await use(...rest);
// What was written to a pipe may wait in this process; a watch that has shown its last would go on.
process.stdout.write('', () => process.exit());
