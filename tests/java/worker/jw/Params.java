package jw;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.util.HashMap;
import java.util.Map;
import tech.powerjob.worker.core.processor.ProcessResult;
import tech.powerjob.worker.core.processor.TaskContext;

/**
 * Parameters of a task: the JSON object of the job, overlaid by that of the run (or by the workflow context).
 */
final class Params {
    private final Map<String, JsonNode> fields = new HashMap<>();

    Params(TaskContext task) {
        for (String text : new String[] {task.getJobParams(), task.getInstanceParams()}) {
            try {
                JsonNode object = new ObjectMapper().readTree(text == null ? "{}" : text);
                object.fields().forEachRemaining(field -> fields.put(field.getKey(), field.getValue()));
            } catch (Exception notJson) {
                // Parameters of other jobs are theirs.
            }
        }
    }

    int number(String name, int otherwise) {
        return fields.containsKey(name) ? fields.get(name).asInt(otherwise) : otherwise;
    }

    String text(String name) {
        return fields.containsKey(name) ? fields.get(name).asText() : null;
    }

    /** Says in the job's log that the task runs here, and sleeps {@code sleep} milliseconds. */
    void work(TaskContext task) throws InterruptedException {
        task.getOmsLogger().info("task {} {} of java", task.getTaskId(), task.getTaskName());
        Thread.sleep(number("sleep", 0));
    }

    /**
     * Sleeps {@code pause} ms, or up to 50 of {@code sleep}, in first and last steps: a Java task tracker may lose the result of a
     * task that ends within a millisecond, and then waits for it for ever.
     */
    void pause() {
        try {
            Thread.sleep(number("pause", Math.min(50, number("sleep", 0))));
        } catch (InterruptedException ended) {
            Thread.currentThread().interrupt();
        }
    }

    /** The end of a task: {@code fail} (a text, or true) makes it fail. */
    ProcessResult end(String result) {
        String fail = text("fail");
        return fail == null || fail.equals("false") ? new ProcessResult(true, result) : new ProcessResult(false, fail);
    }
}
