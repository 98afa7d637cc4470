import com.google.gson.reflect.TypeToken;
import io.kubernetes.client.Exec;
import io.kubernetes.client.custom.V1Patch;
import io.kubernetes.client.openapi.ApiClient;
import io.kubernetes.client.openapi.ApiException;
import io.kubernetes.client.openapi.apis.CoreV1Api;
import io.kubernetes.client.openapi.models.V1ConfigMap;
import io.kubernetes.client.openapi.models.V1ConfigMapList;
import io.kubernetes.client.util.ClientBuilder;
import io.kubernetes.client.util.KubeConfig;
import io.kubernetes.client.util.PatchUtils;
import io.kubernetes.client.util.Watch;
import java.io.File;
import java.io.FileReader;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.io.Reader;
import java.net.InetSocketAddress;
import java.net.Proxy;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Arrays;
import java.util.Map;
import okhttp3.Credentials;

/** The official client, as it is: use NAMESPACE NAME LAST, or exec NAMESPACE POD COMMAND… */
public final class WithOfficial {
  private static final Map<String, String> NEXT = Map.of("first", "second", "third", "fourth");

  private final ApiClient client;
  private final CoreV1Api api;
  private final String namespace;
  private final String name;

  private WithOfficial(ApiClient client, String namespace, String name) {
    this.client = client;
    api = new CoreV1Api(client);
    this.namespace = namespace;
    this.name = name;
  }

  public static void main(String[] arguments) throws IOException, ApiException, InterruptedException {
    WithOfficial program = new WithOfficial(connect(), arguments[1], arguments[2]);
    int code = 0;
    if (arguments[0].equals("exec")) {
      code = program.execute(Arrays.copyOfRange(arguments, 3, arguments.length));
    } else {
      program.use(arguments[3]);
    }
    System.exit(code);
  }

  /** A kubeconfig's credentials are read once, unless it is said how often; a service account's each minute. */
  private static ApiClient connect() throws IOException {
    String path = System.getenv("KUBECONFIG");
    if (path == null) {
      return ClientBuilder.standard().build();
    }
    try (Reader reader = new FileReader(path)) {
      KubeConfig config = KubeConfig.loadKubeConfig(reader);
      config.setFile(new File(path));
      ApiClient client = ClientBuilder.kubeconfig(config, Duration.ofMinutes(1)).build();
      String login = System.getenv("LOGIN_TO_PROXY");
      if (login != null) {
        setProxy(client, Path.of(login));
      }
      return client;
    }
  }

  /** As docs/clients.md has it. */
  private static void setProxy(ApiClient client, Path file) throws IOException {
    URI proxy = URI.create(Files.readString(file));
    client.setHttpClient(client.getHttpClient().newBuilder()
        .proxy(new Proxy(Proxy.Type.HTTP, new InetSocketAddress(proxy.getHost(), proxy.getPort())))
        .proxyAuthenticator((route, answer) -> {
          if (answer.request().header("Proxy-Authorization") != null) {
            return null;
          }
          String[] login = URI.create(Files.readString(file)).getUserInfo().split(":", 2);
          return answer.request().newBuilder()
              .header("Proxy-Authorization", Credentials.basic(login[0], login[1]))
              .build();
        })
        .build());
  }

  /** The exit code of a command in the pod, which has this program's streams. */
  private int execute(String[] command) throws IOException, ApiException, InterruptedException {
    Process running = new Exec(client).exec(namespace, name, command, true);
    // Once it has ended it gives none of them.
    InputStream output = running.getInputStream();
    InputStream errors = running.getErrorStream();
    try (OutputStream input = running.getOutputStream()) {
      System.in.transferTo(input);
    }
    output.transferTo(System.out);
    errors.transferTo(System.err);
    System.out.flush();
    return running.waitFor();
  }

  private void use(String last) throws ApiException, InterruptedException {
    System.out.println("got " + state(api.readNamespacedConfigMap("seed", namespace).execute()));
    V1ConfigMapList list = api.listNamespacedConfigMap(namespace).execute();
    for (V1ConfigMap each : list.getItems()) {
      System.out.println("listed " + each.getMetadata().getName());
    }
    apply("first");
    String version = list.getMetadata().getResourceVersion();
    while (true) {
      try {
        if (follow(version, last)) {
          return;
        }
      } catch (ApiException | IOException | RuntimeException error) {
        System.err.println(error);
      }
      version = null;
      Thread.sleep(1000);
    }
  }

  /** True once the last state was seen, false where the watch has ended. */
  private boolean follow(String version, String last) throws ApiException, IOException {
    CoreV1Api.APIlistNamespacedConfigMapRequest request =
        api.listNamespacedConfigMap(namespace).fieldSelector("metadata.name=" + name).resourceVersion(version).watch(true);
    try (Watch<V1ConfigMap> events = Watch.createWatch(
        client, request.buildCall(null), new TypeToken<Watch.Response<V1ConfigMap>>() {}.getType())) {
      for (Watch.Response<V1ConfigMap> event : events) {
        if (event.object == null) {
          throw new IOException(String.valueOf(event.status));
        }
        System.out.println("watched " + event.type + " " + state(event.object));
        if (state(event.object).equals(last)) {
          return true;
        } else if (NEXT.containsKey(state(event.object))) {
          apply(NEXT.get(state(event.object)));
        }
      }
    }
    return false;
  }

  private void apply(String state) throws ApiException {
    String wanted = "{\"apiVersion\": \"v1\", \"kind\": \"ConfigMap\", \"metadata\": {\"name\": \"" + name
        + "\"}, \"data\": {\"state\": \"" + state + "\"}}";
    PatchUtils.patch(
        V1ConfigMap.class,
        () -> api.patchNamespacedConfigMap(name, namespace, new V1Patch(wanted))
            .fieldManager("official").force(true).buildCall(null),
        V1Patch.PATCH_FORMAT_APPLY_YAML,
        client);
  }

  private static String state(V1ConfigMap map) {
    return map.getData().get("state");
  }
}
