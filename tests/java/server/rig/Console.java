package rig;

import static rig.Answer.fields;
import static rig.Answer.id;
import static rig.Answer.ok;
import static rig.Answer.time;

import com.alibaba.fastjson.JSON;
import com.fasterxml.jackson.core.type.TypeReference;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.text.DecimalFormat;
import java.util.Collections;
import java.util.Date;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TimeZone;
import java.util.stream.Collectors;
import javax.annotation.Resource;
import org.springframework.data.domain.Example;
import org.springframework.data.domain.Page;
import org.springframework.data.domain.PageRequest;
import org.springframework.data.domain.Sort;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.PostMapping;
import org.springframework.web.bind.annotation.RequestBody;
import org.springframework.web.bind.annotation.RestController;
import tech.powerjob.common.enums.InstanceStatus;
import tech.powerjob.common.exception.PowerJobException;
import tech.powerjob.common.model.InstanceDetail;
import tech.powerjob.common.model.PEWorkflowDAG;
import tech.powerjob.common.model.SystemMetrics;
import tech.powerjob.common.request.ServerDiscoveryRequest;
import tech.powerjob.common.utils.CommonUtils;
import tech.powerjob.common.utils.net.PingPongUtils;
import tech.powerjob.server.common.constants.InstanceType;
import tech.powerjob.server.common.module.WorkerInfo;
import tech.powerjob.server.core.instance.InstanceLogService;
import tech.powerjob.server.core.instance.InstanceService;
import tech.powerjob.server.core.service.AppInfoService;
import tech.powerjob.server.core.service.CacheService;
import tech.powerjob.server.core.workflow.WorkflowInstanceService;
import tech.powerjob.server.persistence.remote.model.AppInfoDO;
import tech.powerjob.server.persistence.remote.model.InstanceInfoDO;
import tech.powerjob.server.persistence.remote.model.UserInfoDO;
import tech.powerjob.server.persistence.remote.model.WorkflowInstanceInfoDO;
import tech.powerjob.server.persistence.remote.repository.InstanceInfoRepository;
import tech.powerjob.server.persistence.remote.repository.UserInfoRepository;
import tech.powerjob.server.remote.server.election.ServerElectionService;
import tech.powerjob.server.remote.server.self.ServerInfoService;
import tech.powerjob.server.remote.transporter.ProtocolInfo;
import tech.powerjob.server.remote.transporter.TransportService;
import tech.powerjob.server.remote.worker.WorkerClusterQueryService;

/** Discovery for workers ({@code /server/*}), and the console pages that tests poll, with the paths of 4.3.9 and without a login. */
@RestController
class Console {
    @Resource private ObjectMapper json;
    @Resource private AppInfoService apps;
    @Resource private CacheService cache;
    @Resource private WorkflowInstanceService flows;
    @Resource private InstanceService instances;
    @Resource private InstanceInfoRepository rows;
    @Resource private InstanceLogService logs;
    @Resource private ServerElectionService election;
    @Resource private ServerInfoService self;
    @Resource private TransportService transport;
    @Resource private UserInfoRepository users;
    @Resource private WorkerClusterQueryService workers;

    @GetMapping("/server/assert")
    Map<String, Object> assertApp(String appName) {
        return apps.findByAppName(String.valueOf(appName)).map(app -> ok(app.getId())).orElseGet(() -> Answer.failed(String.format(
                "app(%s) is not registered! Please register the app in oms-console first.", appName)));
    }

    @GetMapping("/server/assertV2")
    Map<String, Object> assertAppV2(String appName) {
        Map<String, Object> answer = assertApp(appName);
        answer.computeIfPresent("data", (name, id) -> fields("appId", id));
        return answer;
    }

    @GetMapping("/server/acquire")
    Map<String, Object> acquire(Long appId, String protocol, String currentServer, String clientVersion) {
        ServerDiscoveryRequest request = new ServerDiscoveryRequest();
        request.setAppId(appId);
        request.setCurrentServer(currentServer);
        request.setClientVersion(clientVersion);
        request.setProtocol(protocol == null ? "AKKA" : protocol);
        return ok(election.elect(request));
    }

    @GetMapping("/server/checkConnectivity")
    Map<String, Object> checkConnectivity(String targetIp, int targetPort) {
        return ok(PingPongUtils.checkConnectivity(targetIp, targetPort));
    }

    @GetMapping("/server/hello")
    Map<String, Object> hello(boolean debug) {
        ProtocolInfo main = transport.defaultProtocol();
        Date now = new Date();
        Map<String, Object> told = fields("appIds", workers.getAppId2ClusterStatus().keySet(),
                "serverInfo", self.fetchCurrentServerInfo(), "localHost", self.fetchCurrentServerInfo().getIp(),
                "serverTimeTs", now.getTime(), "serverTime", time(now.getTime()),
                "serverTimeZone", TimeZone.getDefault().getDisplayName(),
                "defaultAddress", fields("protocol", main.getProtocol(), "address", main.getAddress(),
                        "transporter", fields("protocol", fields()), "externalAddress", main.getExternalAddress()));
        if (debug) {
            told.put("appId2ClusterInfo", JSON.parse(JSON.toJSONString(workers.getAppId2ClusterStatus())));
        }
        return ok(told);
    }

    @PostMapping("/appInfo/save")
    Map<String, Object> saveApp(@RequestBody AppInfoDO app) {
        CommonUtils.requireNonNull(app.getAppName(), "appName can't be empty");
        if (app.getAppName().contains(" ")) {
            throw new PowerJobException("appName can't contains white space!");
        }
        app.setNamespaceId(1L);
        app.setGmtCreate(new Date());
        app.setGmtModified(new Date());
        apps.save(app);
        return ok(null);
    }

    /** Who is told of alarms. */
    @PostMapping("/user/save")
    Map<String, Object> saveUser(@RequestBody UserInfoDO user) {
        user.setGmtCreate(new Date());
        user.setGmtModified(new Date());
        users.save(user);
        return ok(null);
    }

    @GetMapping("/user/list")
    Map<String, Object> listUsers(String name) {
        return ok(users.findAll().stream().filter(user -> name == null || user.getUsername().contains(name))
                .map(user -> fields("id", user.getId(), "username", user.getUsername(), "webHook", user.getWebHook()))
                .collect(Collectors.toList()));
    }

    @GetMapping("/system/listWorker")
    Map<String, Object> listWorker(Long appId) {
        return ok(workers.getAllWorkers(appId).stream().map(Console::row).collect(Collectors.toList()));
    }

    private static Map<String, Object> row(WorkerInfo worker) {
        SystemMetrics load = worker.getSystemMetrics();
        int status = 1 + (load.getCpuLoad() > load.getCpuProcessors() * 0.8 ? 1 : 0)
                + (load.getJvmMemoryUsage() > 0.8 ? 1 : 0) + (load.getDiskUsage() > 0.8 ? 1 : 0);
        return fields("address", worker.getAddress(),
                "cpuLoad", String.format("%s / %s cores", rounded(load.getCpuLoad()), load.getCpuProcessors()),
                "memoryLoad", used(load.getJvmMemoryUsage(), load.getJvmUsedMemory(), load.getJvmMaxMemory()),
                "diskLoad", used(load.getDiskUsage(), load.getDiskUsed(), load.getDiskTotal()),
                "protocol", worker.getProtocol(), "tag", worker.getTag() == null ? "N/A" : worker.getTag(),
                "lastActiveTime", time(worker.getLastActiveTime()),
                "lightTaskTrackerNum", worker.getLightTaskTrackerNum(), "heavyTaskTrackerNum", worker.getHeavyTaskTrackerNum(),
                "lastOverloadTime", worker.getLastOverloadTime(), "overloading", worker.isOverloading(),
                "status", worker.timeout() ? 9999 : worker.overload() ? 3 : status);
    }

    private static String used(double part, double used, double whole) {
        return String.format("%s%%（%s / %s GB）", rounded(part * 100), rounded(used), rounded(whole));
    }

    private static String rounded(double number) {
        return new DecimalFormat("#.#").format(number);
    }

    @GetMapping("/instance/log")
    Map<String, Object> log(Long appId, Long instanceId, Long index) {
        return ok(logs.fetchInstanceLog(appId, instanceId, index));
    }

    @GetMapping("/instance/detail")
    Map<String, Object> detail(Long appId, Long instanceId) {
        InstanceDetail found =
                instances.getInstanceDetail(appId, instanceId, "status in (5, 6) order by last_modified_time desc");
        Map<String, Object> shown = json.convertValue(found, new TypeReference<LinkedHashMap<String, Object>>() {});
        shown.remove("extra");
        shown.putIfAbsent("queriedTaskDetailInfoList", Collections.emptyList());
        shown.put("expectedTriggerTime", time(found.getExpectedTriggerTime()));
        shown.put("actualTriggerTime", time(found.getActualTriggerTime()));
        shown.put("finishedTime", time(found.getFinishedTime()));
        return ok(shown);
    }

    /** What {@code /instance/list} takes. */
    static class Wanted {
        public Long appId;
        public Long jobId;
        public Long instanceId;
        public Long wfInstanceId;
        public InstanceType type;
        public InstanceStatus status;
        public int index;
        public int pageSize = 10;
    }

    @PostMapping("/instance/list")
    Map<String, Object> list(@RequestBody Wanted wanted) {
        InstanceInfoDO like = new InstanceInfoDO();
        like.setAppId(wanted.appId);
        like.setJobId(wanted.jobId);
        like.setInstanceId(wanted.instanceId);
        like.setWfInstanceId(wanted.wfInstanceId);
        like.setType(wanted.type.getV());
        like.setStatus(wanted.status == null ? null : wanted.status.getV());
        Page<InstanceInfoDO> page =
                rows.findAll(Example.of(like), PageRequest.of(wanted.index, wanted.pageSize, Sort.by("gmtModified").descending()));
        List<Map<String, Object>> data = page.getContent().stream().map(row -> fields("jobId", id(row.getJobId()),
                "jobName", cache.getJobName(row.getJobId()), "instanceId", id(row.getInstanceId()),
                "wfInstanceId", id(row.getWfInstanceId()), "result", row.getResult(),
                "taskTrackerAddress", row.getTaskTrackerAddress(), "runningTimes", row.getRunningTimes(),
                "status", row.getStatus(), "actualTriggerTime", time(row.getActualTriggerTime()),
                "finishedTime", time(row.getFinishedTime()))).collect(Collectors.toList());
        return ok(fields("index", wanted.index, "pageSize", wanted.pageSize, "totalPages", page.getTotalPages(),
                "totalItems", page.getTotalElements(), "data", data));
    }

    @GetMapping("/wfInstance/info")
    Map<String, Object> flow(Long appId, Long wfInstanceId) {
        WorkflowInstanceInfoDO found = flows.fetchWfInstance(wfInstanceId, appId);
        Map<String, Object> graph = json.convertValue(JSON.parseObject(found.getDag(), PEWorkflowDAG.class),
                new TypeReference<LinkedHashMap<String, Object>>() {});
        for (Object node : (List<?>) graph.get("nodes")) {
            @SuppressWarnings("unchecked")
            Map<String, Object> shown = (Map<String, Object>) node;
            shown.computeIfPresent("instanceId", (name, id) -> id.toString());
        }
        return ok(fields("wfInstanceId", id(found.getWfInstanceId()), "workflowId", id(found.getWorkflowId()),
                "workflowName", cache.getWorkflowName(found.getWorkflowId()), "status", found.getStatus(),
                "wfInitParams", found.getWfInitParams(), "wfContext", found.getWfContext(), "result", found.getResult(),
                "expectedTriggerTime", time(found.getExpectedTriggerTime()),
                "actualTriggerTime", time(found.getActualTriggerTime()), "finishedTime", time(found.getFinishedTime()),
                "peworkflowDAG", graph));
    }
}
