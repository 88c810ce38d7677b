"""Convert InternVL's conversation templates to Jinja for transformers' `apply_chat_template`, and back."""

from typing import Any

from fcot.internvl.prompts import TEMPLATES, Template
from fcot.internvl.tokens import CONTEXT

LAYOUT = """\
{{%- macro body(content) -%}}
    {{%- if content is string -%}}
        {{{{ content }}}}
    {{%- else -%}}
        {{%- for part in content -%}}
            {{%- if part['type'] == 'image' -%}}
                {{{{ {image} }}}}
            {{%- elif part['type'] == 'text' -%}}
                {{{{ part['text'] }}}}
            {{%- endif -%}}
        {{%- endfor -%}}
    {{%- endif -%}}
{{%- endmacro -%}}
{{%- if messages and messages[0]['role'] == 'system' -%}}
    {{%- set system = body(messages[0]['content']) -%}}
{{%- else -%}}
    {{%- set system = {system} -%}}
{{%- endif -%}}
{{%- if system -%}}
    {{{{ {system_start} + system + {end} }}}}
{{%- endif -%}}
{{%- for message in messages -%}}
    {{%- if message['role'] == 'user' -%}}
        {{{{ {user_start} + body(message['content']) + {end} }}}}
    {{%- elif message['role'] == 'assistant' -%}}
        {{{{ {assistant_start} + body(message['content']) + {end} }}}}
    {{%- endif -%}}
{{%- endfor -%}}
{{%- if add_generation_prompt -%}}
    {{{{ {assistant_start} }}}}
{{%- endif -%}}
"""


def chat_template(template: Template) -> str:
    """Return a conversation template in Jinja.

    It renders exactly the text that the model was trained on, with the template's system message unless the
    conversation has one, and a line break after each image.
    """
    return LAYOUT.format(
        image=quoted(CONTEXT + "\n"),
        system=quoted(template.system),
        system_start=quoted(template.system_start),
        user_start=quoted(template.user_start),
        assistant_start=quoted(template.assistant_start),
        end=quoted(template.end + template.separator),
    )


def template_of(tokenizer: Any) -> Template | None:
    """Return the InternVL template that a tokenizer's chat template renders, with its system message.

    Args:
        tokenizer: A transformers tokenizer; its chat template is tried on one question.

    Returns:
        None if the rendered text fits none of InternVL's templates.
    """
    rendered = tokenizer.apply_chat_template(
        [{"role": "user", "content": "?"}], tokenize=False, add_generation_prompt=True
    )
    for known in TEMPLATES.values():
        asked = "".join(segment.text for segment in known.with_system("").segments(["?"], []))
        head, ending = rendered.removesuffix(asked), known.end + known.separator
        if not rendered.endswith(asked) or not (head.endswith(ending) or not head):
            continue
        if not head:
            return known.with_system("")
        if head.startswith(known.system_start):
            return known.with_system(head.removeprefix(known.system_start).removesuffix(ending))
    return None


def quoted(text: str) -> str:
    """Return a text as a Jinja string literal; non-ASCII letters are not escaped."""
    for plain, escaped in (("\\", "\\\\"), ("'", "\\'"), ("\n", "\\n")):
        text = text.replace(plain, escaped)
    return f"'{text}'"
