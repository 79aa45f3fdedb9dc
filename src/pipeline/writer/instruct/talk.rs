//! Sentences that are said to whoever asked, or about the text, in place of a sentence of the story.

use std::sync::LazyLock;

use regex::Regex;

use super::clean::regex;

/// About the text itself.
static ABOUT: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"(?i)^\W{0,3}(?:the|this|our) (?:story|panel|chapter|scene|text|sentence|paragraph|narrative)\b[^.!?]{0,40}\b(?:begins?|began|continues?|ends?|starts?|tells?|describes?|shows?|is about|goes on)\b|\bthis is the (?:next|last|first|final|second|third) (?:part|panel|chapter|scene|thing|sentence)|\bthis (?:story|tale) is (?:told|about|written)\b|\bthis is (?:the end(?:ing)? of|not) (?:the|this|our|my|a) (?:story|tale|chapter|panel)\b|\bit(?:['’]s| is) not a story\b|\bso the story (?:goes|begins|ends)\b|\b(?:in|of) (?:this|the (?:next|last|first|second|third|final)) (?:panel|chapter|scene|paragraph)|\b(?:first|second|third|fourth|fifth|sixth|last|next|final|previous|one|two|three|four|five|[0-9]+) panels?\b|\bthe story so far\b|^\W{0,3}the story has\b|\b(?:one|two|a|the|each) (?:very )?(?:short|single|simple) sentences?\b|\bwith a sentence\b|\bthe (?:next|last|first) (?:sentence|paragraph)\b|\bco-author\b|\b(?:the|this) (?:story|text|panel|sentence)['’]s\b|\b(?:second|third|next|previous) sentence\b|\bthe readers?\b[^.!?]{0,30}\b(?:is|are|will|can|feels?|learns?)\b|^\W{0,3}(?:la|esta) (?:historia|escena|viñeta)\b[^.!?]{0,40}\b(?:comienza|empieza|continúa|termina|trata|cuenta|muestra)\b|^\W{0,3}(?:die|diese) (?:geschichte|szene)\b[^.!?]{0,40}\b(?:beginnt|endet|handelt|erzählt|zeigt|geht weiter)\b|^\W{0,3}(?:l['’]|cette )(?:histoire|scène)\b[^.!?]{0,40}\b(?:commence|continue|se termine|raconte|montre)\b|^\W{0,3}(?:这个|这|本|该)?(?:故事|画面|场景|段落)(?:从|开始|继续|结束|讲述|描述|展示|描绘|是关于)",
    )
});
/// By the model of itself: that it is about to write, or glad to help.
static ITSELF: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"(?i)^\W{0,3}i(?:['’]m going to|['’]ll| will| can) (?:write|continue|create|add|make|rewrite|describe|provide|help)\b|\bi(?:['’]m| am) (?:here|happy|glad|ready|excited|pleased|delighted) to (?:help|assist|craft|write|create|continue|share|provide|tell you)|\b(?:help|assist) you (?:to )?(?:craft|write|create|develop|tell|continue|with (?:your|the|this|a))\b|\b(?:i|we|let['’]?s|let me)\b[^.!?]{0,40}\b(?:craft|write|create|continue|develop|explore|imagine|brainstorm)\b[^.!?]{0,30}\b(?:story|tale|narrative|panel|scene|continuation|paragraph|sentences?)\b|\b(?:puedo|podría|voy a|estoy aquí para|me (?:alegra|encantaría)|permíteme)\b[^.!?]{0,20}\b(?:ayudar|escribir|contar|continuar|crear|ofrecer)|\bich (?:kann|werde|helfe|schreibe|würde|bin hier|freue mich)\b[^.!?]{0,50}\b(?:helfen|schreiben|fortsetzen|weitererzählen|geschichte|text)\b|\bje (?:peux|vais|suis (?:là|ici|ravie?|heureu(?:x|se)))\b[^.!?]{0,30}\b(?:aider|écrire|raconter|continuer|créer)\b|\bposso (?:ajud|escrev|aiut|scriv|continu)|我(?:可以|会|来|将|很乐意|很高兴|能)[^。！？]{0,10}(?:帮你|帮您|帮助|为你|为您|续写|编写|创作|继续写)|お手伝い|物語を(?:書き|続け|作成)",
    )
});
/// To whoever asked.
static TO_YOU: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"(?i)\byour (?:story|prompt|request|narrative|instructions?|input|question|writing)\b|\b(?:what|how) (?:do|would|should|can|will) you (?:think|like|want|prefer|say)\b[^.!?]*\?|\bwould you like\b|\bdo you want (?:me|to)\b|\bwhat (?:happens|will happen|comes) next\b|\btu (?:historia|relato|solicitud|petición)\b|¿(?:qué te parece|te gustaría|quieres que|qué sucede después|qué pasa después)|\bdeine (?:geschichte|anfrage|bitte)\b|\b(?:möchtest du|möchten sie|soll ich|was passiert als nächstes)\b|\bvotre (?:histoire|demande|récit)\b|\b(?:souhaitez-vous|voulez-vous que|voudrais-tu)\b|(?:你|您)的(?:故事|要求|请求|提示|指示)|(?:需要我|想让我|希望我)(?:继续|写)|いかがですか",
    )
});

/// Whether a sentence is talk. What somebody says in the story counts for nothing.
pub(super) fn is_talk(sentence: &str) -> bool {
    let narrated = without_speech(sentence);
    [&ABOUT, &ITSELF, &TO_YOU]
        .iter()
        .any(|kind| kind.is_match(&narrated))
}

/// A sentence without what stands in quotation marks within it; one that is quoted as a whole stays.
fn without_speech(sentence: &str) -> String {
    static SPEECH: LazyLock<Regex> = LazyLock::new(|| {
        regex(r#""[^"]*(?:"|$)|“[^”]*(?:”|$)|«[^»]*(?:»|$)|„[^“”]*(?:[“”]|$)|「[^」]*(?:」|$)"#)
    });
    SPEECH.replace_all(sentence, "\u{2026}").into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_model_says_to_whoever_asked_is_talk() {
        for talk in [
            "I'm here to help you craft a story.",
            "I am happy to assist with that.",
            "Let's write the next scene together.",
            "I hope your story goes well.",
            "What would you like to see in it?",
            "What happens next in the story?",
            "The reader will learn why.",
            "So the story goes:",
            "The second panel ends with a sentence:",
            "The story so far has 5 panels, and the last one says what happens.",
            "In one short sentence, it unfolds: A fox ran home.",
            "This story is told in one short sentence.",
            "This is the ending of the story.",
            "They were friends- This is the end of the story.",
            "The story begins in a small village.",
            "Estoy aquí para ayudarte con el cuento.",
            "¿Te gustaría que siga?",
            "La historia comienza en un bosque.",
            "Ich kann dir helfen, die Geschichte fortzusetzen.",
            "Soll ich weitererzählen?",
            "Je suis là pour vous aider à écrire.",
            "我很乐意帮你续写这个故事。",
            "这个故事讲述了一只狐狸。",
        ] {
            assert!(is_talk(talk), "{talk}");
        }
    }

    #[test]
    fn what_people_in_a_story_say_and_do_is_none() {
        for told in [
            "\"I'm here to help you,\" said the owl.",
            "“What would you like?” asked the baker.",
            "The owl told a story about the sea.",
            "I ran home as fast as I could.",
            "She wrote a letter to her mother and told her what had happened.",
            "We continued along the path until dark.",
            "«Puedo ayudarte», dijo la lechuza.",
            "Ich lief nach Hause und schrieb ihr einen Brief.",
            "„Soll ich dir helfen?“, fragte die Eule.",
            "“我来帮你，”猫头鹰说。",
            "Ihre Geschichte glaubte ihr niemand.",
            "He was happy to help his sister carry the basket.",
        ] {
            assert!(!is_talk(told), "{told}");
        }
    }
}
