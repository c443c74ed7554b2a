package jw;

import java.util.List;
import tech.powerjob.worker.core.processor.ProcessResult;
import tech.powerjob.worker.core.processor.TaskContext;
import tech.powerjob.worker.core.processor.TaskResult;
import tech.powerjob.worker.core.processor.sdk.BroadcastProcessor;

/** BROADCAST with a pre- and a post-process; the result is {@code post N}, N = results in the list that the last step is given. */
public class Bc implements BroadcastProcessor {
    @Override
    public ProcessResult preProcess(TaskContext task) {
        task.getOmsLogger().info("pre of java");
        new Params(task).pause();
        return new ProcessResult(true, "pre");
    }

    @Override
    public ProcessResult process(TaskContext task) throws Exception {
        Params params = new Params(task);
        params.work(task);
        return params.end("broadcast");
    }

    @Override
    public ProcessResult postProcess(TaskContext task, List<TaskResult> results) {
        new Params(task).pause();
        boolean all = results.stream().allMatch(TaskResult::isSuccess);
        results.forEach(one -> task.getOmsLogger().info("post has {} {} {}", one.getTaskId(), one.isSuccess(), one.getResult()));
        return new ProcessResult(all, "post " + results.size());
    }
}
