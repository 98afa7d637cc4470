import io.fabric8.kubernetes.api.model.ConfigMap;
import io.fabric8.kubernetes.api.model.ConfigMapBuilder;
import io.fabric8.kubernetes.client.KubernetesClient;
import io.fabric8.kubernetes.client.KubernetesClientBuilder;
import io.fabric8.kubernetes.client.KubernetesClientException;
import io.fabric8.kubernetes.client.Watch;
import io.fabric8.kubernetes.client.Watcher;
import io.fabric8.kubernetes.client.WatcherException;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;

/** fabric8's kubernetes-client, as it is: WithFabric8 NAMESPACE NAME LAST */
public final class WithFabric8 {
  private static final Map<String, String> NEXT = Map.of("first", "second", "third", "fourth");

  private final KubernetesClient client;
  private final String namespace;
  private final String name;
  private final String last;

  private WithFabric8(KubernetesClient client, String[] arguments) {
    this.client = client;
    namespace = arguments[0];
    name = arguments[1];
    last = arguments[2];
  }

  public static void main(String[] arguments) throws InterruptedException {
    try (KubernetesClient client = new KubernetesClientBuilder().build()) {
      new WithFabric8(client, arguments).run();
    }
  }

  private void run() throws InterruptedException {
    System.out.println("got " + state(client.configMaps().inNamespace(namespace).withName("seed").require()));
    for (ConfigMap each : client.configMaps().inNamespace(namespace).list().getItems()) {
      System.out.println("listed " + each.getMetadata().getName());
    }
    boolean begun = false;
    while (true) {
      CompletableFuture<Boolean> ended = new CompletableFuture<>();
      try (Watch watch = client.configMaps().inNamespace(namespace).withName(name).watch(watcher(ended))) {
        if (!begun) {
          apply("first");
          begun = true;
        }
        if (ended.get()) {
          return;
        }
      } catch (KubernetesClientException | ExecutionException error) {
        System.err.println(error);
      }
      Thread.sleep(1000);
    }
  }

  private Watcher<ConfigMap> watcher(CompletableFuture<Boolean> ended) {
    return new Watcher<>() {
      @Override
      public void eventReceived(Action action, ConfigMap seen) {
        System.out.println("watched " + action + " " + state(seen));
        try {
          if (state(seen).equals(last)) {
            ended.complete(true);
          } else if (NEXT.containsKey(state(seen))) {
            apply(NEXT.get(state(seen)));
          }
        } catch (KubernetesClientException error) {
          ended.completeExceptionally(error);
        }
      }

      @Override
      public void onClose(WatcherException cause) {
        ended.completeExceptionally(cause);
      }

      @Override
      public void onClose() {
        ended.complete(false);
      }
    };
  }

  private void apply(String state) {
    client.resource(
        new ConfigMapBuilder()
            .withNewMetadata().withNamespace(namespace).withName(name).endMetadata()
            .withData(Map.of("state", state))
            .build())
        .forceConflicts()
        .serverSideApply();
  }

  private static String state(ConfigMap map) {
    return map.getData().get("state");
  }
}
