"""The judge's prompt for coherence, used beside every trait's own."""

COHERENCE = """Please rate how coherent an AI assistant's answer is. You see the question that it was asked and the answer that it gave.

Judge the language and the thread of thought only: is the answer readable, grammatical and free of garbled or endlessly repeated text, does it speak to the question, and does one sentence follow from another? Do not judge whether the answer is true, kind, helpful or agreeable: a rude or mistaken answer can be perfectly coherent.

The question:
[QUESTION START]
{question}
[QUESTION END]

The answer:
[ANSWER START]
{answer}
[ANSWER END]

Reply with one number between 0 and 100 and nothing else. 0 means unreadable or unrelated to the question, 50 means partly confused, 100 means fully coherent. If the answer is empty, reply 0."""
