//! Prompts for runs that name no dataset.

/// Id and text.
pub(super) const PROMPTS: [(&str, &str); 16] = [
    ("builtin-en-1", "Explain in a few sentences why the sky is blue."),
    ("builtin-en-2", "Write a short story about a lighthouse keeper who finds a message in a bottle."),
    ("builtin-en-3", "List five ways to reduce the energy use of a data centre and rank them by cost."),
    ("builtin-en-4", "What is the difference between a process and a thread? Give an example for each."),
    ("builtin-en-5", "Summarise the water cycle for a ten-year-old."),
    ("builtin-en-6", "Write a Python function that returns the n-th Fibonacci number and explain its running time."),
    ("builtin-en-7", "A train leaves at 9:40 and arrives at 13:05. How long does the journey take? Show the steps."),
    ("builtin-en-8", "Translate into French: The meeting has been moved to Thursday afternoon."),
    ("builtin-zh-1", "请用几句话解释为什么天空是蓝色的。"),
    ("builtin-zh-2", "写一首关于秋天的五言绝句，并说明它的意思。"),
    ("builtin-zh-3", "列出降低数据中心能耗的五种方法，并按成本排序。"),
    ("builtin-zh-4", "进程和线程有什么区别？请各举一个例子。"),
    ("builtin-zh-5", "请用小学生能听懂的话介绍水循环。"),
    ("builtin-zh-6", "用 Rust 写一个判断字符串是否为回文的函数，并解释它的时间复杂度。"),
    ("builtin-zh-7", "小明有 12 个苹果，给了小红三分之一，又买了 5 个，现在有几个？请写出步骤。"),
    ("builtin-zh-8", "把下面这句话翻译成英文：会议改到周四下午举行。"),
];
