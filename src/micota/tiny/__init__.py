"""The toy setting: the whole method on a laptop CPU, offline, in minutes.

A toy arithmetic task (`task`), a word-level tokenizer for it (`tokenizer`), bundled problems (`problems`) and
four bundled Llamas of 57k to 302k parameters (`models/`, made once by `pretrain` from `recipes`): a verbose
teacher, a strong teacher assistant and two weak students. A family of students by size has the architecture and
the tokenizer of Qwen2 (`family`, `byte_tokenizer`). Everything else (generation, training, merging, evaluation)
is the code that also runs the large models.

The setting is constructed so that the mechanism of the paper is visible: pre-training contains the useful
habits (announce, explain) often and the redundant ones (checks) rarely, and the teacher checks at random.
Results on it show that the code and the method work as described; they are no evidence about large models.
"""
