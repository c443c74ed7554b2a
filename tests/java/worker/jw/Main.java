package jw;

import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import tech.powerjob.common.enums.Protocol;
import tech.powerjob.worker.PowerJobWorker;
import tech.powerjob.worker.common.PowerJobWorkerConfig;
import tech.powerjob.worker.common.constants.StoreStrategy;

/**
 * A PowerJob worker 5.1.1 in plain Java, with the processors of this package.
 *
 * <pre>-a APP -s HOST:PORT[,..] -p PORT [-t TAG] [-i ADDRESS] [-d DIRECTORY]</pre>
 *
 * {@code -i} is the address it binds and names to others (127.0.0.1), {@code -d} where it keeps its files.
 */
public final class Main {
    private Main() {}

    public static void main(String[] arguments) throws Exception {
        Map<String, String> given = new HashMap<>();
        for (int i = 0; i < arguments.length; i += 2) {
            if (!Arrays.asList("-a", "-s", "-p", "-t", "-i", "-d").contains(arguments[i]) || i + 1 == arguments.length) {
                System.err.println("use: -a APP -s HOST:PORT[,..] -p PORT [-t TAG] [-i ADDRESS] [-d DIRECTORY], got "
                        + Arrays.toString(arguments));
                System.exit(2);
            }
            given.put(arguments[i], arguments[i + 1]);
        }
        System.setProperty("powerjob.network.local.address", given.getOrDefault("-i", "127.0.0.1"));
        if (given.containsKey("-d")) {
            System.setProperty("powerjob.worker.workspace", given.get("-d"));
        }
        PowerJobWorkerConfig config = new PowerJobWorkerConfig();
        config.setAppName(given.get("-a"));
        config.setServerAddress(Arrays.asList(given.get("-s").split(",")));
        config.setPort(Integer.parseInt(given.get("-p")));
        config.setTag(given.get("-t"));
        config.setProtocol(Protocol.HTTP);
        config.setStoreStrategy(StoreStrategy.DISK);
        PowerJobWorker worker = new PowerJobWorker(config);
        worker.init();
        System.out.println("listening on " + given.getOrDefault("-i", "127.0.0.1") + ":" + given.get("-p"));
    }
}
