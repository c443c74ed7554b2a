package rig;

import java.text.SimpleDateFormat;
import java.util.Date;
import java.util.LinkedHashMap;
import java.util.Map;

/** The envelope of every answer, and values as the console shows them. */
final class Answer {
    private Answer() {}

    static Map<String, Object> ok(Object data) {
        return fields("success", true, "data", data, "message", null);
    }

    static Map<String, Object> failed(String message) {
        return fields("success", false, "data", null, "message", message);
    }

    /** Names and values by turns; nulls stay. */
    static Map<String, Object> fields(Object... pairs) {
        Map<String, Object> map = new LinkedHashMap<>();
        for (int i = 0; i < pairs.length; i += 2) {
            map.put((String) pairs[i], pairs[i + 1]);
        }
        return map;
    }

    static String time(Long millis) {
        return millis == null || millis <= 0 ? "N/A" : new SimpleDateFormat("yyyy-MM-dd HH:mm:ss").format(new Date(millis));
    }

    static String id(Long id) {
        return id == null ? "N/A" : id.toString();
    }
}
