package rig;

import static rig.Answer.fields;
import static rig.Answer.ok;

import com.alibaba.fastjson.JSON;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import javax.annotation.Resource;
import org.springframework.web.bind.annotation.PostMapping;
import org.springframework.web.bind.annotation.RequestBody;
import org.springframework.web.bind.annotation.RequestMapping;
import org.springframework.web.bind.annotation.RestController;
import tech.powerjob.common.enums.TimeExpressionType;
import tech.powerjob.common.model.PEWorkflowDAG;
import tech.powerjob.common.request.http.SaveJobInfoRequest;
import tech.powerjob.common.request.http.SaveWorkflowNodeRequest;
import tech.powerjob.common.request.http.SaveWorkflowRequest;
import tech.powerjob.server.core.instance.InstanceService;
import tech.powerjob.server.core.service.AppInfoService;
import tech.powerjob.server.core.service.CacheService;
import tech.powerjob.server.core.service.JobService;
import tech.powerjob.server.core.workflow.WorkflowInstanceService;
import tech.powerjob.server.core.workflow.WorkflowService;
import tech.powerjob.server.persistence.remote.model.WorkflowInfoDO;

/** {@code /openApi/*}: what jobs, instances and workflows are driven with. */
@RestController
@RequestMapping("/openApi")
class OpenApi {
    @Resource private AppInfoService apps;
    @Resource private JobService jobs;
    @Resource private InstanceService instances;
    @Resource private WorkflowService workflows;
    @Resource private WorkflowInstanceService flows;
    @Resource private CacheService cache;

    @PostMapping("/assert")
    Map<String, Object> assertApp(String appName, String password) {
        return ok(apps.assertApp(appName, password, "none"));
    }

    @PostMapping("/saveJob")
    Map<String, Object> saveJob(@RequestBody SaveJobInfoRequest job) {
        if (job.getId() != null) {
            check(job.getId(), job.getAppId());
        }
        return ok(jobs.saveJob(job));
    }

    @PostMapping("/copyJob")
    Map<String, Object> copyJob(Long jobId) {
        return ok(jobs.copyJob(jobId).getId());
    }

    @PostMapping("/fetchJob")
    Map<String, Object> fetchJob(Long jobId, Long appId) {
        check(jobId, appId);
        return ok(jobs.fetchJob(jobId));
    }

    @PostMapping("/fetchAllJob")
    Map<String, Object> fetchAllJob(Long appId) {
        return ok(jobs.fetchAllJob(appId));
    }

    @PostMapping("/disableJob")
    Map<String, Object> disableJob(Long jobId, Long appId) {
        check(jobId, appId);
        jobs.disableJob(jobId);
        return ok(null);
    }

    @PostMapping("/enableJob")
    Map<String, Object> enableJob(Long jobId, Long appId) {
        check(jobId, appId);
        jobs.enableJob(jobId);
        return ok(null);
    }

    @PostMapping("/deleteJob")
    Map<String, Object> deleteJob(Long jobId, Long appId) {
        check(jobId, appId);
        jobs.deleteJob(jobId);
        return ok(null);
    }

    @PostMapping("/runJob")
    Map<String, Object> runJob(Long appId, Long jobId, String instanceParams, Long delay) {
        check(jobId, appId);
        return ok(jobs.runJob(appId, jobId, instanceParams, delay));
    }

    @PostMapping("/stopInstance")
    Map<String, Object> stopInstance(Long instanceId, Long appId) {
        checkInstance(instanceId, appId);
        instances.stopInstance(appId, instanceId);
        return ok(null);
    }

    @PostMapping("/cancelInstance")
    Map<String, Object> cancelInstance(Long instanceId, Long appId) {
        checkInstance(instanceId, appId);
        instances.cancelInstance(appId, instanceId);
        return ok(null);
    }

    @PostMapping("/retryInstance")
    Map<String, Object> retryInstance(Long instanceId, Long appId) {
        checkInstance(instanceId, appId);
        instances.retryInstance(appId, instanceId);
        return ok(null);
    }

    @PostMapping("/fetchInstanceStatus")
    Map<String, Object> fetchInstanceStatus(Long instanceId) {
        return ok(instances.getInstanceStatus(instanceId).getV());
    }

    @PostMapping("/fetchInstanceInfo")
    Map<String, Object> fetchInstanceInfo(Long instanceId) {
        return ok(instances.getInstanceInfo(instanceId));
    }

    @PostMapping("/addWorkflowNode")
    Map<String, Object> addWorkflowNode(@RequestBody List<SaveWorkflowNodeRequest> nodes) {
        return ok(workflows.saveWorkflowNode(nodes));
    }

    @PostMapping("/saveWorkflow")
    Map<String, Object> saveWorkflow(@RequestBody SaveWorkflowRequest workflow) {
        return ok(workflows.saveWorkflow(workflow));
    }

    @PostMapping("/fetchWorkflow")
    Map<String, Object> fetchWorkflow(Long workflowId, Long appId) {
        WorkflowInfoDO found = workflows.fetchWorkflow(workflowId, appId);
        return ok(fields("id", found.getId(), "wfName", found.getWfName(), "wfDescription", found.getWfDescription(),
                "appId", found.getAppId(), "timeExpressionType", TimeExpressionType.of(found.getTimeExpressionType()).name(),
                "timeExpression", found.getTimeExpression(), "maxWfInstanceNum", found.getMaxWfInstanceNum(),
                "enable", found.getStatus() == 1, "notifyUserIds", null, "lifeCycle", null, "gmtCreate", found.getGmtCreate(),
                "gmtModified", found.getGmtModified(), "peworkflowDAG", JSON.parseObject(found.getPeDAG(), PEWorkflowDAG.class)));
    }

    @PostMapping("/disableWorkflow")
    Map<String, Object> disableWorkflow(Long workflowId, Long appId) {
        workflows.disableWorkflow(workflowId, appId);
        return ok(null);
    }

    @PostMapping("/enableWorkflow")
    Map<String, Object> enableWorkflow(Long workflowId, Long appId) {
        workflows.enableWorkflow(workflowId, appId);
        return ok(null);
    }

    @PostMapping("/deleteWorkflow")
    Map<String, Object> deleteWorkflow(Long workflowId, Long appId) {
        workflows.deleteWorkflow(workflowId, appId);
        return ok(null);
    }

    @PostMapping("/runWorkflow")
    Map<String, Object> runWorkflow(Long workflowId, Long appId, String initParams, Long delay) {
        return ok(workflows.runWorkflow(workflowId, appId, initParams, delay == null ? 0 : delay));
    }

    @PostMapping("/stopWfInstance")
    Map<String, Object> stopWfInstance(Long wfInstanceId, Long appId) {
        flows.stopWorkflowInstanceEntrance(wfInstanceId, appId);
        return ok(null);
    }

    @PostMapping("/retryWfInstance")
    Map<String, Object> retryWfInstance(Long wfInstanceId, Long appId) {
        flows.retryWorkflowInstance(wfInstanceId, appId);
        return ok(null);
    }

    @PostMapping("/markWorkflowNodeAsSuccess")
    Map<String, Object> markWorkflowNodeAsSuccess(Long wfInstanceId, Long nodeId, Long appId) {
        flows.markNodeAsSuccess(appId, wfInstanceId, nodeId);
        return ok(null);
    }

    @PostMapping("/fetchWfInstanceInfo")
    Map<String, Object> fetchWfInstanceInfo(Long wfInstanceId, Long appId) {
        return ok(flows.fetchWorkflowInstanceInfo(wfInstanceId, appId));
    }

    private void check(Long jobId, Long appId) {
        Long owner = cache.getAppIdByJobId(jobId);
        if (owner == null) {
            throw new IllegalArgumentException("can't find job by jobId: " + jobId);
        }
        if (!Objects.equals(owner, appId)) {
            throw new IllegalArgumentException("this job is not belong to the app whose appId is " + appId);
        }
    }

    private void checkInstance(Long instanceId, Long appId) {
        Long owner = cache.getAppIdByInstanceId(instanceId);
        if (owner == null) {
            throw new IllegalArgumentException("can't find instance by instanceId: " + instanceId);
        }
        if (!Objects.equals(owner, appId)) {
            throw new IllegalArgumentException("instance is not belong to the app whose appId is " + appId);
        }
    }
}
