package jw;

import java.util.ArrayList;
import java.util.List;
import tech.powerjob.worker.core.processor.ProcessResult;
import tech.powerjob.worker.core.processor.TaskContext;
import tech.powerjob.worker.core.processor.sdk.MapProcessor;

/** MAP: the root task makes {@code tasks} (20) sub-tasks with texts as content, each sleeps {@code sleep} ms. */
public class Mp implements MapProcessor {
    /** What one sub-task is given; texts can be read by workers of every language. */
    protected Object content(int number) {
        return "item-" + number;
    }

    @Override
    public ProcessResult process(TaskContext task) throws Exception {
        Params params = new Params(task);
        if (!isRootTask()) {
            params.work(task);
            return params.end("done " + task.getSubTask());
        }
        int tasks = params.number("tasks", 20);
        List<Object> batch = new ArrayList<>();
        for (int i = 0; i < tasks; i++) {
            batch.add(content(i));
            if (batch.size() == RECOMMEND_BATCH_SIZE || i + 1 == tasks) {
                map(batch, "ITEM");
                batch = new ArrayList<>();
            }
        }
        return new ProcessResult(true, "mapped " + tasks);
    }
}
