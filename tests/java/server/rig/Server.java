package rig;

import java.util.List;
import java.util.Map;
import java.util.concurrent.RejectedExecutionHandler;
import java.util.concurrent.ThreadPoolExecutor;
import org.springframework.boot.CommandLineRunner;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.context.annotation.Bean;
import org.springframework.scheduling.TaskScheduler;
import org.springframework.scheduling.annotation.EnableAsync;
import org.springframework.scheduling.annotation.EnableScheduling;
import org.springframework.scheduling.concurrent.ThreadPoolTaskExecutor;
import org.springframework.scheduling.concurrent.ThreadPoolTaskScheduler;
import org.springframework.web.bind.annotation.ExceptionHandler;
import org.springframework.web.bind.annotation.RestControllerAdvice;
import tech.powerjob.server.common.RejectedExecutionHandlerFactory;
import tech.powerjob.server.common.aware.ServerInfoAware;
import tech.powerjob.server.common.constants.PJThreadPool;
import tech.powerjob.server.common.utils.PropertyUtils;
import tech.powerjob.server.remote.aware.TransportServiceAware;
import tech.powerjob.server.remote.server.self.ServerInfoService;
import tech.powerjob.server.remote.transporter.TransportService;

/** The core of the PowerJob server 5.1.1 under a thin REST layer: same paths as the real one, no login, no console. */
@SpringBootApplication(scanBasePackages = {"rig", "tech.powerjob.server"})
@EnableAsync
@EnableScheduling
public class Server {
    public static void main(String[] arguments) {
        PropertyUtils.init();
        SpringApplication.run(Server.class, arguments);
    }

    // Sizes and what happens when they are full are those of the real server.

    @Bean(PJThreadPool.TIMING_POOL)
    ThreadPoolTaskExecutor timing() {
        int cores = Runtime.getRuntime().availableProcessors();
        return pool("timing-", cores, cores * 4, 1000, RejectedExecutionHandlerFactory.newThreadRun("timing"));
    }

    @Bean(PJThreadPool.BACKGROUND_POOL)
    ThreadPoolTaskExecutor background() {
        int cores = Runtime.getRuntime().availableProcessors();
        return pool("background-", cores * 8, cores * 16, 8192, RejectedExecutionHandlerFactory.newDiscard("background"));
    }

    @Bean(PJThreadPool.LOCAL_DB_POOL)
    ThreadPoolTaskExecutor localDb() {
        int size = Math.max(1, Runtime.getRuntime().availableProcessors() / 2);
        return pool("local-db-", size, size, 2048, RejectedExecutionHandlerFactory.newDiscard("local-db"));
    }

    @Bean
    TaskScheduler taskScheduler() {
        ThreadPoolTaskScheduler scheduler = new ThreadPoolTaskScheduler();
        scheduler.setPoolSize(Math.max(Runtime.getRuntime().availableProcessors() * 8, 32));
        scheduler.setThreadNamePrefix("schedule-");
        scheduler.setDaemon(true);
        return scheduler;
    }

    private static ThreadPoolTaskExecutor pool(String name, int core, int max, int queue, RejectedExecutionHandler full) {
        ThreadPoolTaskExecutor pool = new ThreadPoolTaskExecutor();
        pool.setCorePoolSize(core);
        pool.setMaxPoolSize(max);
        pool.setQueueCapacity(queue);
        pool.setThreadNamePrefix(name);
        pool.setRejectedExecutionHandler(full);
        return pool;
    }

    /** Beans of the core that wait to be told who and where this server is. */
    @Bean
    CommandLineRunner introduce(ServerInfoService self, List<ServerInfoAware> infos,
            TransportService transport, List<TransportServiceAware> transports) {
        return arguments -> {
            infos.forEach(aware -> aware.setServerInfo(self.fetchCurrentServerInfo()));
            transports.forEach(aware -> aware.setTransportService(transport));
        };
    }

    /** Failures are answers with HTTP 200. */
    @RestControllerAdvice
    static class Failures {
        @ExceptionHandler(Exception.class)
        Map<String, Object> failed(Exception failure) {
            String text = failure.getMessage();
            return Answer.failed(failure.getClass().getSimpleName() + ": " + (text == null ? "" : text));
        }
    }
}
