package jw;

import tech.powerjob.worker.core.processor.ProcessResult;
import tech.powerjob.worker.core.processor.TaskContext;
import tech.powerjob.worker.core.processor.sdk.BasicProcessor;

/** Parameters: {@code lines} N are logged, {@code sleep} ms, {@code fail}, {@code key} (and {@code value}) into the workflow context. */
public class Echo implements BasicProcessor {
    @Override
    public ProcessResult process(TaskContext task) throws Exception {
        Params params = new Params(task);
        int lines = params.number("lines", 0);
        for (int i = 1; i <= lines; i++) {
            task.getOmsLogger().info("line {} of {}: the quick brown fox jumps over the lazy dog", i, lines);
        }
        params.work(task);
        String key = params.text("key");
        if (key != null) {
            String value = params.text("value");
            task.getWorkflowContext().appendData2WfContext(key, value == null ? task.getInstanceId() : value);
        }
        return params.end(lines + " lines");
    }
}
