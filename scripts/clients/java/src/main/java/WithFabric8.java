import io.fabric8.kubernetes.api.model.ConfigMap;
import io.fabric8.kubernetes.api.model.ConfigMapBuilder;
import io.fabric8.kubernetes.client.KubernetesClient;
import io.fabric8.kubernetes.client.KubernetesClientBuilder;
import io.fabric8.kubernetes.client.KubernetesClientException;
import io.fabric8.kubernetes.client.Watch;
import io.fabric8.kubernetes.client.Watcher;
import io.fabric8.kubernetes.client.WatcherException;
import io.fabric8.kubernetes.client.dsl.ExecWatch;
import java.util.Arrays;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;

/** fabric8's kubernetes-client, as it is: use NAMESPACE NAME LAST, or exec NAMESPACE POD COMMAND… */
public final class WithFabric8 {
  private static final Map<String, String> NEXT = Map.of("first", "second", "third", "fourth");

  private final KubernetesClient client;
  private final String namespace;
  private final String name;

  private WithFabric8(KubernetesClient client, String namespace, String name) {
    this.client = client;
    this.namespace = namespace;
    this.name = name;
  }

  public static void main(String[] arguments) throws InterruptedException, ExecutionException {
    int code = 0;
    try (KubernetesClient client = new KubernetesClientBuilder().build()) {
      WithFabric8 program = new WithFabric8(client, arguments[1], arguments[2]);
      if (arguments[0].equals("exec")) {
        code = program.execute(Arrays.copyOfRange(arguments, 3, arguments.length));
      } else {
        program.use(arguments[3]);
      }
    }
    System.exit(code);
  }

  /** The exit code of a command in the pod, which has this program's streams. */
  private int execute(String[] command) throws InterruptedException, ExecutionException {
    try (ExecWatch running = client.pods().inNamespace(namespace).withName(name)
        .readingInput(System.in)
        .writingOutput(System.out)
        .writingError(System.err)
        .exec(command)) {
      return running.exitCode().get();
    } finally {
      System.out.flush();
    }
  }

  private void use(String last) throws InterruptedException {
    System.out.println("got " + state(client.configMaps().inNamespace(namespace).withName("seed").require()));
    for (ConfigMap each : client.configMaps().inNamespace(namespace).list().getItems()) {
      System.out.println("listed " + each.getMetadata().getName());
    }
    boolean begun = false;
    while (true) {
      CompletableFuture<Boolean> ended = new CompletableFuture<>();
      try (Watch watch = client.configMaps().inNamespace(namespace).withName(name).watch(watcher(ended, last))) {
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

  private Watcher<ConfigMap> watcher(CompletableFuture<Boolean> ended, String last) {
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
