package jw;

import java.util.List;
import tech.powerjob.worker.core.processor.ProcessResult;
import tech.powerjob.worker.core.processor.TaskContext;
import tech.powerjob.worker.core.processor.TaskResult;
import tech.powerjob.worker.core.processor.sdk.MapReduceProcessor;

/** MAP_REDUCE over the sub-tasks of {@link Mp}; the result is {@code reduced N}, N = results in the list that reduce is given. */
public class Mr extends Mp implements MapReduceProcessor {
    @Override
    public ProcessResult reduce(TaskContext task, List<TaskResult> results) {
        new Params(task).pause();
        boolean all = results.stream().allMatch(TaskResult::isSuccess);
        results.stream().filter(one -> !one.isSuccess())
                .forEach(one -> task.getOmsLogger().error("failed: {} {}", one.getTaskId(), one.getResult()));
        return new ProcessResult(all, "reduced " + results.size());
    }
}
