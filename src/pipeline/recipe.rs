//! Recipes: how a panel comes about.

use std::fmt;
use std::str::FromStr;

use super::load::ResolvedModels;
use super::{LoadProgress, Pipeline, PipelineError, RECIPES};
use crate::weights::Model;

/// Names a recipe in records, manifests and command lines.
///
/// ```
/// use vokenboard::pipeline::RecipeId;
///
/// let recipe: RecipeId = "voken".parse().unwrap();
/// assert_eq!(recipe.to_string(), "voken");
/// assert!("oil".parse::<RecipeId>().unwrap_err().contains("caption"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RecipeId(&'static str);

impl RecipeId {
    /// The recipe of that name, for whoever defines it.
    pub(super) const fn new(name: &'static str) -> RecipeId {
        RecipeId(name)
    }

    /// The name in records and on the command line.
    pub fn as_str(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for RecipeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl FromStr for RecipeId {
    type Err = String;

    fn from_str(name: &str) -> Result<RecipeId, String> {
        let all = || RECIPES.iter().map(|recipe| recipe.id());
        all().find(|id| id.as_str() == name).ok_or_else(|| {
            let names: Vec<&str> = all().map(RecipeId::as_str).collect();
            format!("\"{name}\" is not a recipe; choose {}", names.join(" or "))
        })
    }
}

/// How a panel comes about with a model.
pub trait Recipe: Sync {
    /// Its id, unique among [`RECIPES`].
    fn id(&self) -> RecipeId;

    /// What it does, in half a sentence for people.
    fn summary(&self) -> &'static str;

    /// Whether a model is made for it.
    fn detect(&self, model: &Model) -> bool;

    /// # Errors
    /// When a part is missing or broken, or does not fit the others.
    fn load(
        &self,
        chosen: &ResolvedModels,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Box<dyn Pipeline>, PipelineError>;
}

/// The recipes that a model is made for, the usual one first.
pub fn recipes(model: &Model) -> Vec<RecipeId> {
    let made_for = RECIPES.iter().filter(|recipe| recipe.detect(model));
    made_for.map(|recipe| recipe.id()).collect()
}

/// A model's name without the recipe that a command line may put behind it (`sprout:caption`).
///
/// ```
/// use vokenboard::pipeline::{CAPTION, split_recipe};
///
/// assert_eq!(split_recipe("sprout:caption"), ("sprout", Some(CAPTION)));
/// assert_eq!(split_recipe("llama3:8b"), ("llama3:8b", None));
/// ```
pub fn split_recipe(name: &str) -> (&str, Option<RecipeId>) {
    let split = name.rsplit_once(':');
    let split = split.and_then(|(name, recipe)| Some((name, recipe.parse().ok()?)));
    match split {
        Some((name, recipe)) => (name, Some(recipe)),
        None => (name, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::CAPTION;

    #[test]
    fn a_recipe_behind_a_name_is_split_off_and_other_colons_stay() {
        assert_eq!(split_recipe("sprout:caption"), ("sprout", Some(CAPTION)));
        assert_eq!(split_recipe("C:/models/own"), ("C:/models/own", None));
        assert_eq!(split_recipe("llama3:8b"), ("llama3:8b", None));
        assert_eq!(split_recipe("sprout"), ("sprout", None));
    }
}
