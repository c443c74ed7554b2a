package jw;

import java.util.ArrayList;
import java.util.List;
import tech.powerjob.worker.core.processor.ProcessResult;
import tech.powerjob.worker.core.processor.TaskContext;
import tech.powerjob.worker.core.processor.sdk.MapProcessor;

/**
 * MAP: the root task makes {@code tasks} (20) sub-tasks with texts as content, each sleeps {@code sleep} ms and makes
 * {@code deeper} (0) sub-tasks of its own.
 */
public class Mp implements MapProcessor {
    /** What one sub-task is given; texts can be read by workers of every language. */
    protected Object content(int number) {
        return "item-" + number;
    }

    @Override
    public ProcessResult process(TaskContext task) throws Exception {
        Params params = new Params(task);
        if (isRootTask()) {
            int tasks = params.number("tasks", 20);
            mapAll(tasks, "ITEM");
            return new ProcessResult(true, "mapped " + tasks);
        }
        params.work(task);
        if (task.getTaskName().equals("ITEM")) {
            mapAll(params.number("deeper", 0), "LEAF");
        }
        return params.end("done " + task.getSubTask());
    }

    private void mapAll(int tasks, String name) throws Exception {
        List<Object> batch = new ArrayList<>();
        for (int i = 0; i < tasks; i++) {
            batch.add(content(i));
            if (batch.size() == RECOMMEND_BATCH_SIZE || i + 1 == tasks) {
                map(batch, name);
                batch = new ArrayList<>();
            }
        }
    }
}
