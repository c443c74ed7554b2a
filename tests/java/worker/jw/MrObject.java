package jw;

/** MAP_REDUCE whose sub-tasks are objects of a Java class, which no other language can read. */
public class MrObject extends Mr {
    /** The content of one sub-task. */
    public static class Item {
        public int number;

        @Override
        public String toString() {
            return "object-" + number;
        }
    }

    @Override
    protected Object content(int number) {
        Item item = new Item();
        item.number = number;
        return item;
    }
}
