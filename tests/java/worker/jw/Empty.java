package jw;

import tech.powerjob.worker.core.processor.ProcessResult;
import tech.powerjob.worker.core.processor.TaskContext;
import tech.powerjob.worker.core.processor.sdk.BasicProcessor;

/** Ends at once. */
public class Empty implements BasicProcessor {
    @Override
    public ProcessResult process(TaskContext task) {
        return new ProcessResult(true, "ok");
    }
}
