"""InternVL's conversation templates as the Jinja text that transformers' `apply_chat_template` renders."""

from fcot.internvl.prompts import Template
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
    """Return the Jinja text of a conversation template.

    What it renders is, character for character, what the model was trained on: the template's own system message
    unless the conversation brings one, and a line break after each image.
    """
    return LAYOUT.format(
        image=quoted(CONTEXT + "\n"),
        system=quoted(template.system),
        system_start=quoted(template.system_start),
        user_start=quoted(template.user_start),
        assistant_start=quoted(template.assistant_start),
        end=quoted(template.end + template.separator),
    )


def quoted(text: str) -> str:
    """Return a text as a Jinja string; letters of other scripts stay readable."""
    for plain, escaped in (("\\", "\\\\"), ("'", "\\'"), ("\n", "\\n")):
        text = text.replace(plain, escaped)
    return f"'{text}'"
