// @kubernetes/client-node, as it is: with-client-node.mjs NAMESPACE NAME LAST
import * as k8s from '@kubernetes/client-node';
import { setTimeout } from 'node:timers/promises';

const [namespace, name, last] = process.argv.slice(2);
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
function follow(maps, resourceVersion) {
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

let maps = api();
console.log('got', (await maps.readNamespacedConfigMap({ namespace, name: 'seed' })).data.state);
const found = await maps.listNamespacedConfigMap({ namespace });
for (const each of found.items) console.log('listed', each.metadata.name);
await write(maps, 'first');
let version = found.metadata.resourceVersion;
for (;;) {
  try {
    if (await follow(maps, version)) process.exit(0);
  } catch (error) {
    console.error(String(error));
    // A kubeconfig with the token in it is read once; the files of in-cluster are read again by themselves.
    if ((error.statusCode ?? error.code) === 401 && process.env.KUBECONFIG) maps = api();
  }
  version = undefined;
  await setTimeout(1000);
}
